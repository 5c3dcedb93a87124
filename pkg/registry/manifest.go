package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/store"
)

// The media types that a reference may lead to. All are asked for at once: a
// registry that does not see the one it has may convert it to schema 1.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	schema1        = "application/vnd.docker.distribution.manifest.v1+json"
	schema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"

	accept = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " + dockerIndex + ", " + dockerManifest
)

// Limits of documents that are read into memory. The first is the
// distribution-spec's for what registries should accept.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
)

func isIndexType(mt string) bool { return mt == ocispec.MediaTypeImageIndex || mt == dockerIndex }
func isManifestType(mt string) bool {
	return mt == ocispec.MediaTypeImageManifest || mt == dockerManifest
}

// document is a manifest or an index, its bytes checked against desc.
type document struct {
	desc  ocispec.Descriptor
	bytes []byte
}

// head asks what the reference names now. The descriptor is a claim of the
// registry's; it is zero where there is no complete one to be had this way, and
// a GET must tell.
func (r *repository) head(ctx context.Context, ref Reference) (ocispec.Descriptor, error) {
	resp, err := r.do(ctx, http.MethodHead, "/manifests/"+ref.identifier(), http.Header{"Accept": {accept}})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	discard(resp)
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, nil // without a body that says why
	}
	d := ocispec.Descriptor{Digest: ref.digest, Size: resp.ContentLength}
	if d.MediaType, err = contentType(resp, object(ref)); errors.Is(err, ErrSchema1) {
		return ocispec.Descriptor{}, err
	}
	if d.Digest == "" {
		d.Digest = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if err != nil || d.Size <= 0 || store.CheckDescriptor(d) != nil {
		return ocispec.Descriptor{}, nil
	}
	return d, nil
}

func object(ref Reference) string { return "manifest " + ref.identifier() }

// manifest returns the document that want describes, from the store or else
// from the registry, and leaves it in the store. Of want only the digest must be
// known; where even that is not, ref says what to ask for.
func (r *repository) manifest(ctx context.Context, ref Reference, want ocispec.Descriptor, st *store.Store) (document, error) {
	if want.MediaType != "" && want.Size <= maxManifest && st.Has(want) {
		if b, err := st.ReadBlob(want); err == nil {
			return document{want, b}, nil
		}
	}
	id := ref.identifier()
	if want.Digest != "" {
		id = string(want.Digest)
	}
	var doc document
	err := r.retry(ctx, func() (err error) {
		doc, err = r.get(ctx, id, want)
		return err
	})
	if err != nil {
		return document{}, err
	}
	return doc, st.WriteBlob(ctx, doc.desc, doc.bytes)
}

func (r *repository) get(ctx context.Context, id string, want ocispec.Descriptor) (document, error) {
	what := "manifest " + id
	resp, err := r.do(ctx, http.MethodGet, "/manifests/"+id, http.Header{"Accept": {accept}})
	if err != nil {
		return document{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return document{}, r.statusError(resp, what)
	}
	defer resp.Body.Close()
	mt, err := contentType(resp, what)
	if err != nil {
		return document{}, err
	}
	if want.MediaType != "" && want.MediaType != mt {
		return document{}, &MediaTypeError{Object: what, Reason: "is sent as " + mt + " and was announced as " + printable(want.MediaType)}
	}
	b, err := readAll(resp, what, maxManifest)
	if err != nil {
		return document{}, err
	}
	d := want
	d.MediaType, d.Size = mt, int64(len(b))
	if want.Size > 0 {
		d.Size = want.Size
	}
	if d.Digest == "" {
		d.Digest = digest.FromBytes(b)
		// Only the tag was known: what the registry says of its bytes must be so.
		if claim := digest.Digest(resp.Header.Get("Docker-Content-Digest")); strings.HasPrefix(string(claim), "sha256:") {
			d.Digest = claim
		}
	}
	return document{d, b}, nil // WriteBlob compares
}

// contentType returns the media type of the answer, one of the four.
func contentType(resp *http.Response, what string) (string, error) {
	s := resp.Header.Get("Content-Type")
	mt, _, err := mime.ParseMediaType(s)
	switch {
	case mt == schema1, mt == schema1Signed:
		return "", fmt.Errorf("%s: %w", what, ErrSchema1)
	case err == nil && (isIndexType(mt) || isManifestType(mt)):
		return mt, nil
	}
	return "", &MediaTypeError{Object: what, Reason: "is sent as " + printable(fmt.Sprintf("%q", s)) + ", which is no manifest"}
}

// readAll reads a body of at most most bytes.
func readAll(resp *http.Response, what string, most int64) ([]byte, error) {
	if resp.ContentLength > most {
		return nil, &LengthError{Object: what, Max: most}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, &brokenError{fmt.Errorf("%s: %s: %w", what, origin(resp.Request.URL), err)}
	}
	if int64(len(b)) > most {
		return nil, &LengthError{Object: what, Max: most}
	}
	return b, nil
}

// parseIndex parses an index, and refuses one that could also be read as a
// manifest (CVE-2021-41190).
func parseIndex(doc document) (*ocispec.Index, error) {
	what := "index " + string(doc.desc.Digest)
	var both struct {
		ocispec.Index
		Config   json.RawMessage `json:"config"`
		Layers   json.RawMessage `json:"layers"`
		FSLayers json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(doc.bytes, &both); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	idx := both.Index
	switch {
	case present(both.Layers), present(both.Config), present(both.FSLayers):
		return nil, &MediaTypeError{what, "is both an index and a manifest"}
	case idx.SchemaVersion != 2:
		return nil, &MediaTypeError{what, fmt.Sprintf("has schemaVersion %d, want 2", idx.SchemaVersion)}
	case idx.MediaType != "" && idx.MediaType != doc.desc.MediaType:
		return nil, &MediaTypeError{what, "is sent as " + doc.desc.MediaType + " and calls itself " + printable(idx.MediaType)}
	}
	return &idx, nil
}

func present(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}

// checkConfig refuses configs that are not of an image, or too large.
func checkConfig(d ocispec.Descriptor) error {
	what := "config " + string(d.Digest)
	switch {
	case d.MediaType == schema1, d.MediaType == schema1Signed:
		return fmt.Errorf("%s: %w", what, ErrSchema1)
	case d.MediaType != ocispec.MediaTypeImageConfig && d.MediaType != dockerConfig:
		return &MediaTypeError{what, "is " + printable(fmt.Sprintf("%q", d.MediaType)) + ": this is an artifact, not an image"}
	case d.Size > maxConfig:
		return &LengthError{Object: what, Max: maxConfig}
	}
	return nil
}

// config returns the config of an image, from the store or the registry. The
// descriptor has passed checkConfig.
func (r *repository) config(ctx context.Context, d ocispec.Descriptor, st *store.Store) ([]byte, error) {
	what := "config " + string(d.Digest)
	if st.Has(d) {
		if b, err := st.ReadBlob(d); err == nil {
			return b, nil
		}
	}
	var b []byte
	err := r.retry(ctx, func() error {
		resp, err := r.do(ctx, http.MethodGet, "/blobs/"+string(d.Digest), nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return r.statusError(resp, what)
		}
		defer resp.Body.Close()
		b, err = readAll(resp, what, d.Size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, st.WriteBlob(ctx, d, b)
}
