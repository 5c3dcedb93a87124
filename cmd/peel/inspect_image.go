package main

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/registry"
	"peel/pkg/store"
)

// imageFacts is what inspect prints of an image, in the structure of docker's.
type imageFacts struct {
	ID           string `json:"Id"` // the digest of its config
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      *time.Time `json:",omitempty"`
	Author       string
	Config       ocispec.ImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64  // of all blobs, compressed, in bytes
	RootFS       struct {
		Type   string
		Layers []digest.Digest
	}
	// Descriptor is the manifest's.
	Descriptor ocispec.Descriptor
}

func inspectImage(st *store.Store, img *store.Image) *imageFacts {
	f := &imageFacts{
		ID: img.Manifest.Config.Digest.String(), RepoTags: []string{}, RepoDigests: []string{},
		Created: img.Config.Created, Author: img.Config.Author, Config: img.Config.Config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: img.Size(), Descriptor: img.Descriptor,
	}
	f.RootFS.Type, f.RootFS.Layers = img.Config.RootFS.Type, img.Config.RootFS.DiffIDs
	if n := len(img.Config.History); n > 0 {
		f.Comment = img.Config.History[n-1].Comment
	}
	imgs, _ := st.Images()
	for _, other := range imgs {
		if other.Descriptor.Digest != img.Descriptor.Digest {
			continue
		}
		ref, err := registry.ParseReference(other.Name)
		if err != nil {
			f.RepoTags = append(f.RepoTags, other.Name) // as another tool has named it
			continue
		}
		if ref.Tag() != "" {
			f.RepoTags = append(f.RepoTags, ref.FamiliarName()+":"+ref.Tag())
		}
		f.RepoDigests = append(f.RepoDigests, ref.FamiliarName()+"@"+other.Source.String())
	}
	return f
}
