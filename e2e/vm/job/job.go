// Package job is what a virtual machine of the tests and its first program say
// to each other: jobs in a file on its disk, events on its second serial port.
package job

// File is where the list of jobs lies on the disk.
const File = "/vm/jobs.json"

// Job is one program to run inside.
type Job struct {
	Name string
	Args []string
	Env  []string // over the usual one
	Dir  string
}

// Event is one line of JSON.
type Event struct {
	Job string
	// Output is a piece of what the job prints, on either stream.
	Output string `json:",omitempty"`
	// Ended: the job has, with Code; 128+n after signal n, -1 where it could not
	// be started, which Output says why.
	Ended bool `json:",omitempty"`
	Code  int  `json:",omitempty"`
}
