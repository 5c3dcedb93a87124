package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	kp "github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	peel "peel/pkg/layers/gzip"
)

// work decodes file once for each byte of standard input, and prints the
// nanoseconds of CPU, this process's collector included.
func work(name, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	decode, err := decoder(name)
	if err != nil {
		return err
	}
	stdin := bufio.NewReader(os.Stdin)
	for {
		if _, err := stdin.ReadByte(); err != nil {
			return nil
		}
		before, err := cpu()
		if err != nil {
			return err
		}
		if err := decode(bytes.NewReader(data)); err != nil {
			return err
		}
		after, err := cpu()
		if err != nil {
			return err
		}
		fmt.Println(after - before)
	}
}

func cpu() (int64, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	return t.Nano(), err
}

// decoder returns what decodes a file to its end, by WriteTo where there is one.
// Each keeps its memory, as a program with many files does.
func decoder(name string) (func(io.Reader) error, error) {
	switch name {
	case "stdlib":
		z, buf := new(gzip.Reader), make([]byte, 128<<10)
		return func(r io.Reader) error {
			err := z.Reset(r)
			for err == nil {
				_, err = z.Read(buf)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}, nil
	case "klauspost":
		z := new(kp.Reader)
		return func(r io.Reader) error {
			if err := z.Reset(r); err != nil {
				return err
			}
			_, err := z.WriteTo(io.Discard)
			return err
		}, nil
	case "peel", "peel-purego", "peel-nocrc":
		z := new(peel.Reader)
		return func(r io.Reader) error {
			if err := z.Reset(r); err != nil {
				return err
			}
			if name == "peel-nocrc" {
				z.SkipChecksum()
			}
			_, err := z.WriteTo(io.Discard)
			return err
		}, nil
	}
	return nil, fmt.Errorf("no decoder %q", name)
}
