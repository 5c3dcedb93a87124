package inflate

import "fmt"

// Fault is what makes a stream no DEFLATE stream.
type Fault uint8

const (
	BadBlockType      Fault = iota + 1 // block type 3
	BadStoredLength                    // a stored block's length and its complement differ
	TooManySymbols                     // more than 286 literal and length codes, or 30 distance codes
	BadCodeLengthCode                  // the code of the code lengths is not complete
	RepeatOfNothing                    // the first code length repeats the one before it
	TooManyLengths                     // a repeat runs past the number of codes
	NoEndOfBlock                       // the code has no word for the end of the block
	BadLiteralCode                     // the literal and length code is oversubscribed or incomplete
	BadDistanceCode                    // the distance code is
	InvalidSymbol                      // a codeword that stands for no literal and no length
	InvalidDistance                    // a codeword that stands for no distance
	DistanceTooFar                     // a match begins before the stream's first byte
)

var faultText = [...]string{
	BadBlockType:      "block type 3",
	BadStoredLength:   "stored block's length does not match its complement",
	TooManySymbols:    "too many literal, length or distance codes",
	BadCodeLengthCode: "code length code is not complete",
	RepeatOfNothing:   "repeat of a code length before the first",
	TooManyLengths:    "repeated code length runs past the last code",
	NoEndOfBlock:      "no code for the end of the block",
	BadLiteralCode:    "literal and length code is not complete",
	BadDistanceCode:   "distance code is not complete",
	InvalidSymbol:     "invalid literal or length code",
	InvalidDistance:   "invalid distance code",
	DistanceTooFar:    "distance reaches before the start",
}

func (f Fault) String() string {
	if int(f) < len(faultText) && f != 0 {
		return faultText[f]
	}
	return fmt.Sprintf("fault %d", uint8(f))
}

// CorruptError reports input that no DEFLATE compressor writes. A stream that
// ends too early is none: that is io.ErrUnexpectedEOF.
type CorruptError struct {
	Fault Fault
	// Offset is the number of the Input's bytes that had been taken, in part or
	// whole, when the fault showed.
	Offset int64
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("inflate: %s, at byte %d of the input", e.Fault, e.Offset)
}
