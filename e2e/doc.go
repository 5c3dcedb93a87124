// Package e2e tests peel as its users meet it: the built binary, real images
// from a real registry, and other tools beside it.
//
// The directories below it are what that takes: images (made from Debian's
// packages), layout (how they are stored), registry (which serves them), tree
// (which compares file systems), vm (tests inside a virtual machine) and lab, the
// command for the others. The peers that are Go modules are built from tools, the
// others come from setup.sh.
package e2e
