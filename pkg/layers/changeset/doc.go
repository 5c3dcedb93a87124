// Package changeset is what a layer means, whatever it is applied to (image-spec
// layer.md calls it a changeset): which of its names are whiteouts, what no layer
// may say, how much an image may ask for, which attributes are not for the file
// system. Those who make files of layers and those who make file systems of them
// share it, so that both come to the same.
package changeset
