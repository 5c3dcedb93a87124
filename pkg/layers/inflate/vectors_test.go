package inflate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// stream packs a stream from words: 5'17 is 17 in 5 bits, lowest first, as
// numbers are sent; 0110 is a codeword, as it is sent; pad goes on to the next
// byte, where x'… begins, which is bytes in hex.
func stream(text string) []byte {
	var out []byte
	n := 0
	put := func(bit byte) {
		if n%8 == 0 {
			out = append(out, 0)
		}
		out[n/8] |= bit << (n % 8)
		n++
	}
	for word := range strings.FieldsSeq(text) {
		if word == "pad" {
			n = len(out) * 8
			continue
		}
		width, value, number := strings.Cut(word, "'")
		switch {
		case !number:
			for _, c := range word {
				put(byte(c - '0'))
			}
		case width == "x":
			b, err := hex.DecodeString(value)
			if err != nil || n%8 != 0 {
				panic(word)
			}
			out = append(out, b...)
			n += 8 * len(b)
		default:
			w, err1 := strconv.Atoi(width)
			v, err2 := strconv.ParseUint(value, 10, 32)
			if err1 != nil || err2 != nil || v>>w != 0 {
				panic(word)
			}
			for i := range w {
				put(byte(v >> i & 1))
			}
		}
	}
	return out
}

func TestStreamPacksWordsAsTheyAreSent(t *testing.T) {
	if got := stream("1'1 2'1 011 pad x'ff00 4'9"); !bytes.Equal(got, []byte{0b110_01_1, 0xff, 0, 9}) {
		t.Errorf("%08b", got)
	}
}

// Code length codes: in the first, 0 gives a code no word and 10 leaves it one of
// 18's long runs of the same; in the second, length 1 is 11 and in the third
// length 2 is.
const (
	only0and18  = " 4'0  3'0 3'0 3'1 3'1 "                                                         // 0: 0, 18: 1
	only1too    = " 4'14 3'0 3'0 3'1 3'2 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'2 " // 18: 0, 0: 10, 1: 11
	only2too    = " 4'12 3'0 3'0 3'1 3'2 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'0 3'2 "         // 18: 0, 0: 10, 2: 11
	zeros256    = " 0 7'127 0 7'107 "
	onlyEnd     = "1'1 2'2 5'0 5'0" + only1too + zeros256 + "11 10 "    // end of block: 0; no distance
	endAndThree = "1'1 2'2 5'1 5'0" + only1too + zeros256 + "11 11 11 " // end: 0, length 3: 1; distance 1: 0
	a, b        = " 10010001 ", " 10010010 "                            // in the fixed code
	end         = " 0000000 "
)

var vectors = []struct {
	claim string
	in    string
	out   string
	want  Fault // 0: none
}{
	{"stored block", "1'1 2'0 pad x'0300fcff616263", "abc", 0},
	{"empty stored block", "1'1 2'0 pad x'0000ffff", "", 0},
	{"two stored blocks", "1'0 2'0 pad x'0100feff61 1'1 2'0 pad x'0100feff62", "ab", 0},
	{"padding before a stored block's length may be ones", "1'1 2'0 11111 pad x'0100feff61", "a", 0},
	{"fixed block", "1'1 2'1" + a + b + end, "ab", 0},
	{"fixed block with a match", "1'1 2'1" + a + b + "0000001 00001" + end, "ababa", 0},
	{"a match runs into itself", "1'1 2'1" + a + "0000001 00000" + end, "aaaa", 0},
	{"length 258 has its own symbol", "1'1 2'1" + a + "11000101 00000" + end, strings.Repeat("a", 259), 0},
	{"length 258 by 284's extra bits too", "1'1 2'1" + a + "11000100 5'31 00000" + end, strings.Repeat("a", 259), 0},
	{"a match reaches into the block before", "1'0 2'1" + a + b + end + "1'1 2'1 0000001 00001" + end, "ababa", 0},
	{"one code for the end and none for distances", onlyEnd + "0", "", 0},
	{"fixed, dynamic, fixed", "1'0 2'1" + a + end + strings.Replace(onlyEnd, "1'1", "1'0", 1) + "0 1'1 2'1" + b + end, "ab", 0},

	{"block type 3", "1'1 2'3", "", BadBlockType},
	{"block type 3 after output", "1'0 2'1" + a + end + "1'1 2'3", "a", BadBlockType},
	{"stored length without its complement", "1'1 2'0 pad x'0100ffff61", "", BadStoredLength},
	{"287 literal and length codes", "1'1 2'2 5'30 5'0 4'0", "", TooManySymbols},
	{"288 literal and length codes", "1'1 2'2 5'31 5'0 4'0", "", TooManySymbols},
	{"31 distance codes", "1'1 2'2 5'0 5'30 4'0", "", TooManySymbols},
	{"32 distance codes", "1'1 2'2 5'0 5'31 4'0", "", TooManySymbols},
	{"code length code oversubscribed", "1'1 2'2 5'0 5'0 4'0 3'1 3'1 3'1 3'1", "", BadCodeLengthCode},
	{"code length code incomplete", "1'1 2'2 5'0 5'0 4'0 3'1 3'2 3'0 3'0", "", BadCodeLengthCode},
	{"code length code of one word", "1'1 2'2 5'0 5'0 4'0 3'0 3'0 3'0 3'1", "", BadCodeLengthCode},
	{"code length code of none", "1'1 2'2 5'0 5'0 4'0 3'0 3'0 3'0 3'0", "", BadCodeLengthCode},
	{"the first length repeats", "1'1 2'2 5'0 5'0 4'0 3'1 3'0 3'0 3'1 1", "", RepeatOfNothing},
	{"a repeat one too long", "1'1 2'2 5'0 5'0" + only0and18 + "1 7'127 1 7'110", "", TooManyLengths},
	{"a repeat of 16 one too long", "1'1 2'2 5'0 5'0 4'0 3'2 3'0 3'1 3'2 0 7'127 0 7'107 11 2'0", "", TooManyLengths},
	{"no code for the end", "1'1 2'2 5'0 5'0" + only0and18 + "1 7'127 1 7'109", "", NoEndOfBlock},
	{"literal code oversubscribed", "1'1 2'2 5'0 5'0" + only1too + "11 11 0 7'127 0 7'105 11 10", "", BadLiteralCode},
	{"literal code incomplete", "1'1 2'2 5'0 5'0" + only2too + "11 0 7'127 0 7'106 11 10", "", BadLiteralCode},
	{"literal code of one word of two bits", "1'1 2'2 5'0 5'0" + only2too + zeros256 + "11 10", "", BadLiteralCode},
	{"distance code oversubscribed", "1'1 2'2 5'0 5'2" + only1too + zeros256 + "11 11 11 11", "", BadDistanceCode},
	{"distance code of one word of two bits", "1'1 2'2 5'3 5'0" + only2too + zeros256 + "11 11 11 11 11", "", BadDistanceCode},
	{"the other bit of a code of one word", onlyEnd + "1", "", InvalidSymbol},
	{"length symbol 286", "1'1 2'1" + a + "11000110", "a", InvalidSymbol},
	{"length symbol 287", "1'1 2'1" + a + "11000111", "a", InvalidSymbol},
	{"distance symbol 30", "1'1 2'1" + a + "0000001 11110", "a", InvalidDistance},
	{"distance symbol 31", "1'1 2'1" + a + "0000001 11111", "a", InvalidDistance},
	{"the other bit of a distance code of one word", endAndThree + "1 1", "", InvalidDistance},
	{"a match before any output", endAndThree + "1 0", "", DistanceTooFar},
	{"a match from before the first byte", "1'1 2'1" + a + b + "0000001 00010" + end, "ab", DistanceTooFar},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		for _, l := range loops {
			// With bytes behind it the fast loop has room to run.
			for _, tail := range []int{0, 100} {
				t.Run(fmt.Sprintf("%s/%s/%d", v.claim, l.name, tail), func(t *testing.T) {
					in := stream(v.in)
					got := decode(l.kind, bytes.NewReader(append(in, make([]byte, tail)...)), 4096)
					if string(got.out) != v.out {
						t.Errorf("output is %q, want %q", got.out, v.out)
					}
					if v.want == 0 {
						if got.err != nil || got.used != int64(len(in)) {
							t.Errorf("error %v after %d bytes, want none after %d", got.err, got.used, len(in))
						}
						return
					}
					var corrupt *CorruptError
					switch {
					case !errors.As(got.err, &corrupt) || corrupt.Fault != v.want:
						t.Errorf("error is %v, want %v", got.err, v.want)
					case corrupt.Offset > int64(len(in)) || corrupt.Offset != got.used:
						t.Errorf("fault at byte %d of %d, %d are used", corrupt.Offset, len(in), got.used)
					}
				})
			}
		}
	}
}

func TestEveryPrefixIsTruncated(t *testing.T) {
	for _, v := range vectors {
		if v.want != 0 {
			continue
		}
		in := stream(v.in)
		for n := range in {
			got := decode(bestLoop, bytes.NewReader(in[:n]), 4096)
			if got.err != io.ErrUnexpectedEOF || !strings.HasPrefix(v.out, string(got.out)) {
				t.Errorf("%s, %d bytes of it: %q, %v", v.claim, n, got.out, got.err)
			}
		}
	}
}
