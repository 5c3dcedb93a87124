// Package progress is the one way in which peel's packages tell what they are
// doing. A package that works for long takes a Func and calls it; it never
// prints and never logs. Only the command line turns events into words.
//
// An event is also the record of `peel --progress json`: one JSON object a
// line, whose fields are documented at Event and stay as they are.
package progress

import "github.com/opencontainers/go-digest"

// Kind says what an Event reports.
type Kind string

const (
	// Resolved: Image names a manifest, whose digest is Digest. Message holds
	// the repository as people know it ("library/nginx"). Sent once, before the
	// events of its layers.
	Resolved Kind = "resolved"
	// Queued: the layer Digest, Total compressed bytes, belongs to the image.
	// Sent once a layer, in the order of the manifest.
	Queued Kind = "queued"
	// Exists: the layer's blob is in the store already.
	Exists Kind = "exists"
	// Downloading: Current of Total compressed bytes have arrived.
	Downloading Kind = "downloading"
	// Downloaded: the layer's blob is in the store, its size and digest checked.
	Downloaded Kind = "downloaded"
	// Unpacking: Current of Total compressed bytes have been unpacked.
	Unpacking Kind = "unpacking"
	// Unpacked: the layer is unpacked, its DiffID checked.
	Unpacked Kind = "unpacked"
	// Retrying: the transfer of Digest broke off and goes on at byte Current;
	// Message says why.
	Retrying Kind = "retrying"
	// Warning: Message tells of something that was done differently from what
	// the image or the user asked. Sent once for each kind of thing.
	Warning Kind = "warning"
)

// Event is one step of work on an image. Fields that a Kind does not speak of
// are zero.
type Event struct {
	Kind    Kind          `json:"event"`
	Image   string        `json:"image,omitempty"`   // the reference, in full
	Digest  digest.Digest `json:"digest,omitempty"`  // of the layer's blob, or of the manifest
	Current int64         `json:"current,omitempty"` // bytes
	Total   int64         `json:"total,omitempty"`   // bytes
	Message string        `json:"message,omitempty"` // for people; control characters of remote origin are escaped
}

// Func receives events. It may be called from several goroutines at once and
// must not block. A nil Func is silent: send through Send.
type Func func(Event)

// Send reports e, unless f is nil.
func (f Func) Send(e Event) {
	if f != nil {
		f(e)
	}
}
