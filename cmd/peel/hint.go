package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"peel/internal/users"
	"peel/pkg/host"
	"peel/pkg/image"
	"peel/pkg/layers/tar"
	"peel/pkg/layout"
	"peel/pkg/registry"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

// hintFor names the next step after an error; empty where we know of none.
func hintFor(err error) string {
	if hint := usageHint(err); hint != "" {
		return hint
	}
	if hint := registryHint(err); hint != "" {
		return hint
	}
	if hint := localHint(err); hint != "" {
		return hint
	}
	return imageHint(err)
}

func usageHint(err error) string {
	var reference *registry.ReferenceError
	if errors.As(err, &reference) && reference.Path {
		return "peel takes images by reference, as in nginx:latest or registry.example.org/team/app:1.2"
	}
	var usage usageError
	if errors.As(err, &usage) && usage.cmd != nil {
		return fmt.Sprintf("see '%s --help'", usage.cmd.CommandPath())
	}
	return ""
}

func registryHint(err error) string {
	var (
		unauthorized *registry.UnauthorizedError
		notFound     *registry.NotFoundError
		limited      *registry.RateLimitError
		platform     *registry.PlatformError
		tls          *registry.TLSError
		dns          *net.DNSError
		op           *net.OpError
		mismatch     *store.VerifyError
	)
	switch {
	case errors.As(err, &unauthorized) && unauthorized.LoggedIn:
		return fmt.Sprintf("the stored login for %s does not allow this; check the name, or 'docker login %[1]s' as another user", unauthorized.Registry)
	case errors.As(err, &unauthorized):
		return fmt.Sprintf("check the name; if the repository is private, 'docker login %s' or 'podman login --compat-auth-file ~/.docker/config.json %[1]s'", unauthorized.Registry)
	case errors.As(err, &notFound) && strings.HasPrefix(notFound.Object, "blob "):
		return "the registry has the image's manifest and not all of its blobs: ask its publisher to push it again"
	case errors.As(err, &notFound):
		return "check the name and the tag"
	case errors.As(err, &limited) && limited.Quota && !limited.LoggedIn:
		return fmt.Sprintf("pulls without a login are limited; 'docker login %s' raises the limit", limited.Registry)
	case errors.As(err, &limited) && limited.RetryAfter > 0:
		return fmt.Sprintf("try again in %s", limited.RetryAfter)
	case errors.As(err, &limited):
		return "try again later"
	case errors.As(err, &platform) && len(platform.Have) > 0:
		return "choose one of them, as in --platform " + platform.Have[0]
	case errors.As(err, &tls) && tls.PlainHTTP:
		return "if the registry is to be trusted without encryption, use --insecure"
	case errors.As(err, &tls):
		return "add the registry's certificate to the system's, or, to trust it unseen, use --insecure"
	case errors.As(err, &mismatch):
		return "the registry, or something on the way to it, sent other bytes; what was received has been removed, run the command again"
	case errors.As(err, &dns):
		return "check the registry's name and the network"
	case errors.As(err, &op) && op.Op == "dial":
		return "check that the registry runs and that the network lets you reach it"
	}
	return ""
}

func localHint(err error) string {
	var (
		noBundle    notBundleError
		noSource    unknownSourceError
		lostLayers  lostLayersError
		noIDs       noSubordinateError
		unknown     unknownImageError
		used        *usedImageError
		unsupported *image.UnsupportedError
		obstacle    *host.Obstacle
		damaged     *store.DamagedError
		index       *store.IndexError
		disk        *store.Error
		layer       *unpack.LayerError
		space       *unpack.SpaceError
		parent      *unpack.ParentError
	)
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	switch {
	case errors.Is(err, unpack.ErrNotEmpty):
		return "choose another directory, or --force to replace this one"
	case errors.As(err, &parent):
		return fmt.Sprintf("make it first, as with 'mkdir -p %s'", parent.Path)
	case errors.Is(err, unpack.ErrNotDirectory), errors.Is(err, unpack.ErrMountPoint):
		return "choose another directory, which need not be there yet"
	case errors.Is(err, image.ErrExists):
		return "choose another name, or --force to replace this one"
	case errors.Is(err, store.ErrInUse), errors.Is(err, image.ErrInUse):
		return "wait for the other peel to end, then run the command again"
	case errors.As(err, &noIDs):
		return "root can give some with 'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER', with package uidmap installed"
	case errors.As(err, &noBundle):
		return "if it is a root file system itself, say so with --rootfs"
	case errors.As(err, &noSource):
		return "'peel ps -a' lists the containers, and 'peel images' the images; others are fetched with 'peel pull'"
	case errors.As(err, &lostLayers):
		return fmt.Sprintf("'peel pull %s' fetches what is missing", lostLayers.name)
	case errors.Is(err, layout.ErrNotLayout):
		return "choose another directory, which need not be there yet"
	case errors.As(err, &unknown):
		return "'peel images' lists those that are"
	case errors.As(err, &obstacle):
		return obstacle.Fix + "; 'peel doctor' looks at the rest"
	case errors.As(err, &unsupported):
		return "--store-form files unpacks the image instead"
	case errors.As(err, &used):
		return "remove them with 'peel rm', or the image alone with 'peel rmi --force'"
	case errors.As(err, &damaged):
		return "pull the image again to repair it, or remove it with 'peel rmi'"
	case errors.As(err, &index):
		return fmt.Sprintf("remove %s: images lose their names, which a pull gives back without fetching their layers again", index.Path)
	case errors.Is(err, store.ErrNotFound):
		return "fetch it with 'peel pull'"
	case errors.As(err, &disk) && full:
		return "make room, or keep the store elsewhere with --root DIR or PEEL_ROOT"
	case errors.As(err, &disk):
		return "choose a store of your own with --root DIR or PEEL_ROOT"
	case errors.As(err, &space), errors.As(err, &layer) && full:
		return "make room, or unpack to another file system"
	case full:
		return "make room"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "allow more open files, as 'ulimit -n 4096' does"
	}
	return ""
}

// imageHint is for what nobody but the image's publisher can mend.
func imageHint(err error) string {
	var (
		mediaType *registry.MediaTypeError
		length    *registry.LengthError
		invalid   *store.InvalidError
		limit     *unpack.LimitError
		tarLimit  *tar.LimitError
		syntax    *users.SyntaxError
		unknown   *users.UnknownError
		file      *users.FileError
		platform  *registry.PlatformError
		pull      pullError
	)
	switch {
	case errors.As(err, &limit), errors.As(err, &tarLimit):
		return "the image is larger than any sound one; if you trust it all the same, raise the bound with --limit"
	case errors.As(err, &syntax), errors.As(err, &unknown), errors.As(err, &file):
		return "a user is a name of the image's /etc/passwd or an id, and a group after a colon; 'peel unpack --rootfs' needs none"
	case errors.As(err, &mediaType), errors.As(err, &length), errors.As(err, &invalid), errors.As(err, &platform),
		contentAtFault(err), errors.Is(err, registry.ErrSchema1):
		return "the image itself is at fault: try another tag, or ask its publisher to push it again"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection broke off again and again; run the same command again to go on from there"
	case errors.As(err, &pull):
		return "check the registry's name; if it is right, try again later, or ask who runs it"
	}
	return ""
}
