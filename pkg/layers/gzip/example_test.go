package gzip_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"

	"peel/pkg/layers/gzip"
	"peel/pkg/layers/inflate"
)

func file(contents string) io.Reader {
	var b bytes.Buffer
	w := stdgzip.NewWriter(&b)
	io.WriteString(w, contents)
	w.Close()
	return &b
}

func Example() {
	z, err := gzip.NewReader(file("hello\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := io.ReadAll(z)
	fmt.Printf("%s%v\n", b, err)
	// Output:
	// hello
	// <nil>
}

// Decode writes into a window of the caller's. What is new in it can be used where
// it lies; only the history that later matches may copy moves, when it is full.
func ExampleReader_Decode() {
	z, err := gzip.NewReader(file("hello\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	z.SkipChecksum() // the digest below says more
	digest := sha256.New()
	window := make([]byte, inflate.History+256<<10)
	for pos := inflate.History; ; {
		end, err := z.Decode(window, pos)
		digest.Write(window[pos:end])
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		if pos = end; len(window)-pos < inflate.Slack {
			pos = copy(window, window[pos-inflate.History:pos])
		}
	}
	fmt.Printf("sha256:%x\n", digest.Sum(nil))
	// Output: sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
}
