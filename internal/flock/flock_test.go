package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestALockIsOneOpenFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := Lock(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if ok, err := Try(b); ok || err != nil {
		t.Errorf("while it is held: %v, %v", ok, err)
	}
	a.Close()
	if ok, err := Try(b); !ok || err != nil {
		t.Errorf("after its file was closed: %v, %v", ok, err)
	}
}

func TestWaitingEndsWithTheLockOrTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := Share(a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	got := make(chan error)
	go func() { got <- Lock(ctx, b) }()
	cancel(enough)
	if err := <-got; !errors.Is(err, enough) {
		t.Errorf("the context ended: %v", err)
	}
	go func() { got <- Lock(t.Context(), b) }()
	a.Close()
	if err := <-got; err != nil {
		t.Errorf("the lock was free: %v", err)
	}
}

func TestSharedLocksGoTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b, c := open(t, path), open(t, path), open(t, path)
	if err := errors.Join(Share(a), Share(b)); err != nil {
		t.Fatal(err)
	}
	if ok, err := Try(c); ok || err != nil {
		t.Errorf("an exclusive one beside them: %v, %v", ok, err)
	}
}

func TestALockedFileMayHaveLostItsName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	f := open(t, path)
	is := func(what string, want bool) {
		t.Helper()
		if ok, err := Names(path, f); ok != want || err != nil {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
	}
	is("as opened", true)
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	is("renamed", false)
	open(t, path)
	is("another one in its place", false)
	if err := errors.Join(os.Remove(path), os.Symlink(path+"2", path)); err != nil {
		t.Fatal(err)
	}
	is("a link to it", false)
}
