package proto

// Who is attached to a container and its monitor exchange packets over a socket
// of type SOCK_SEQPACKET: one byte that says what it is, and then its content.
// The first that a caller sends is AttachHello or AttachStop; the monitor answers
// that with AttachDone or AttachRefused.
const (
	AttachHello = 'a' // be attached
	AttachStop  = 's' // do not start the container again; not followed by anything
	AttachInput = 'i' // what was typed
	AttachEOF   = 'e' // the end of the input
	AttachSize  = 'w' // of the terminal: rows and columns, 2 bytes each, the low one first

	AttachDone    = 'd' // to AttachStop: 1 if it was between two runs, else 0
	AttachRefused = 'n' // the container does not run
	AttachOut     = 'o' // what the program has printed
	AttachErr     = 'x' // what it has printed to stderr
	AttachEnd     = 'q' // the run is over: the exit code, 4 bytes, the low one first
)

// AttachSocket is the socket's name in the directory of what runs.
const AttachSocket = "attach"

// MaxAttach is the size of the largest packet.
const MaxAttach = 1 + 16<<10
