package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"peel/pkg/layers/gzip"
)

func newGunzipCommand(a *app) *cobra.Command {
	var req gunzipRequest
	cmd := &cobra.Command{
		Use:   "gunzip [flags] [FILE]",
		Short: "Decompress a gzip file",
		Long: `Decompress a gzip file, or stdin, to stdout, with the decoder that layers go
through. FILE stays as it is.

Length and CRC-32 of every member are checked. What comes out before an error is
found has been written all the same, except with -o: there FILE appears when all
is well.`,
		Example: `  peel gunzip layer.tar.gz | tar -t
  peel gunzip -t layer.tar.gz
  curl -s https://example.org/file.gz | peel gunzip -o file`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.input = args[0]
			}
			switch {
			case (req.test || req.list) && req.output != "":
				return usageError{cmd, errors.New("--test and --list write no file")}
			case req.threads < 1:
				return usageError{cmd, fmt.Errorf("--threads %d: want 1 or more", req.threads)}
			}
			return a.gunzip(cmd.Context(), req)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&req.output, "output", "o", "", "write to `FILE` instead of stdout")
	flags.BoolVarP(&req.test, "test", "t", false, "only check the file")
	flags.BoolVarP(&req.list, "list", "l", false, "check the file and print its sizes")
	flags.IntVar(&req.threads, "threads", 1, "decode from `N` places of the file at once; pays from 3 on")
	return cmd
}

// gunzipRequest is one file to decompress as the command line asks for it.
type gunzipRequest struct {
	input, output string // empty or - is stdin or stdout
	test, list    bool
	threads       int
}

func (a *app) gunzip(ctx context.Context, req gunzipRequest) error {
	src, name := os.Stdin, "stdin"
	if req.input != "" && req.input != "-" {
		f, err := os.Open(req.input)
		if err != nil {
			return err
		}
		defer f.Close()
		src, name = f, req.input
	}
	in := &countingReader{ctx: ctx, r: src}
	switch {
	case req.test, req.list:
		out, err := decompress(io.Discard, in, name, req.threads)
		if err == nil && req.list {
			_, err = fmt.Fprintf(a.stdout, "%12s %12s %6s  %s\n%12d %12d %5.1f%%  %s\n",
				"COMPRESSED", "SIZE", "SAVED", "FILE", in.n, out, saved(in.n, out), name)
		}
		return err
	case req.output == "" || req.output == "-":
		widen(a.stdout)
		_, err := decompress(a.stdout, in, name, req.threads)
		return err
	}
	return replaceFile(req.output, func(w io.Writer) error {
		_, err := decompress(w, in, name, req.threads)
		return err
	})
}

// decompress returns the number of bytes written.
func decompress(w io.Writer, r io.Reader, name string, threads int) (n int64, err error) {
	z, err := gzip.NewReader(r)
	if err == nil {
		defer z.Close()
		z.Speculate(threads - 1)
		n, err = z.WriteTo(w)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, fmt.Errorf("%s: the file ends too early", name)
	case err != nil:
		return n, fileError{name, err}
	}
	return n, nil
}

// fileError is an error about a file's contents, without the library's name, which
// the line does not need.
type fileError struct {
	name string
	err  error
}

func (e fileError) Error() string {
	return e.name + ": " + strings.TrimPrefix(strings.TrimPrefix(e.err.Error(), "gzip: "), "inflate: ")
}

func (e fileError) Unwrap() error { return e.err }

// saved is the share of the contents that the file does not take, in percent.
func saved(file, contents int64) float64 {
	if contents == 0 {
		return 0
	}
	return 100 * (1 - float64(file)/float64(contents))
}

// countingReader counts, and ends when its context does.
type countingReader struct {
	ctx context.Context
	r   io.Reader
	n   int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
