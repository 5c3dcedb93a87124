package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// Push uploads the image of a layout and calls it repo:tag. Blobs that the
// repository has are not sent again.
func (r *Registry) Push(ctx context.Context, l *layout.Dir, repo, tag string) (ocispec.Descriptor, error) {
	root, err := l.Root()
	if err != nil {
		return root, err
	}
	if err := r.pushTree(ctx, l, root, repo, tag); err != nil {
		return root, fmt.Errorf("push %s:%s: %w", repo, tag, err)
	}
	return root, nil
}

// pushTree uploads what a manifest or index needs before the document itself.
func (r *Registry) pushTree(ctx context.Context, l *layout.Dir, d ocispec.Descriptor, repo, reference string) error {
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, layout.DockerIndex:
		var idx ocispec.Index
		if err := l.ReadJSON(d, &idx); err != nil {
			return err
		}
		for _, m := range idx.Manifests {
			if err := r.pushTree(ctx, l, m, repo, m.Digest.String()); err != nil {
				return err
			}
		}
	default:
		var m ocispec.Manifest
		if err := l.ReadJSON(d, &m); err != nil {
			return err
		}
		for _, b := range append(m.Layers, m.Config) {
			if err := r.PushBlob(ctx, repo, b.Digest, l.BlobPath(b.Digest)); err != nil {
				return fmt.Errorf("blob %s: %w", b.Digest, err)
			}
		}
	}
	body, err := os.ReadFile(l.BlobPath(d.Digest))
	if err != nil {
		return err
	}
	return r.PushManifest(ctx, repo, reference, d.MediaType, body)
}

// PushManifest uploads a manifest or index under a tag or its digest.
func (r *Registry) PushManifest(ctx context.Context, repo, reference, mediaType string, body []byte) error {
	_, err := r.do(ctx, http.MethodPut, "/v2/"+repo+"/manifests/"+reference, mediaType, bytes.NewReader(body), http.StatusCreated)
	return err
}

// PushBlob uploads the file at path, in one request.
func (r *Registry) PushBlob(ctx context.Context, repo string, dgst digest.Digest, path string) error {
	if _, err := r.do(ctx, http.MethodHead, "/v2/"+repo+"/blobs/"+dgst.String(), "", nil, http.StatusOK); err == nil {
		return nil
	}
	start, err := r.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	to, err := url.Parse(start.Get("Location"))
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", dgst.String())
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = r.do(ctx, http.MethodPut, to.Path+"?"+q.Encode(), "application/octet-stream", f, http.StatusCreated)
	return err
}

func (r *Registry) do(ctx context.Context, method, path, contentType string, body io.Reader, want int) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Addr+path, body)
	if err != nil {
		return nil, err
	}
	if f, ok := body.(*os.File); ok {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		req.ContentLength = st.Size()
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.User != "" {
		req.SetBasicAuth(r.User, r.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return resp.Header, nil
}
