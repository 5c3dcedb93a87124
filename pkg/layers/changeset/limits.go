package changeset

import "peel/pkg/layers/tar"

// Limits bounds what an image can make those do who apply its layers. A zero field stands for the
// default named beside it. Going beyond one is a *LimitError, or for those of
// Tar a *tar.LimitError.
type Limits struct {
	Entries   int64 // entries of all layers: 8 Mi
	Bytes     int64 // bytes of all files, holes included: 1 TiB
	FileBytes int64 // bytes of one file: 256 GiB
	Depth     int   // directories above a name: 512

	// Kept bounds the directories, whiteouts and links into lower layers of all
	// layers. They are what stays in memory until the layers are merged, some
	// 300 bytes each: 512 Ki.
	Kept int64

	// Ratio bounds a layer's bytes by those of its blob, once there are more than
	// a GiB of them: 256. DEFLATE reaches 1032 with zeros, real layers some 20.
	Ratio int64

	Tar tar.Limits // of each layer
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	orElse(&l.Entries, 8<<20)
	orElse(&l.Bytes, 1<<40)
	orElse(&l.FileBytes, 256<<30)
	orElse(&l.Depth, 512)
	orElse(&l.Kept, 512<<10)
	orElse(&l.Ratio, 256)
	return l
}

func orElse[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// LayerBytes is how many bytes a layer may have whose blob has blobSize.
func (l Limits) LayerBytes(blobSize int64) int64 { return max(RatioFloor, l.Ratio*blobSize) }

// RatioFloor is how far a layer may expand whatever its ratio.
const RatioFloor = 1 << 30

// Exceeded is nil as long as got is within limit.
func Exceeded(what string, got, limit int64) error {
	if got <= limit {
		return nil
	}
	return &LimitError{What: what, Got: got, Limit: limit}
}
