package registry

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// multi is a shelf with an index as buildkit makes it: two platforms, each
// followed by an attestation that calls itself a platform.
func multi() (s *shelf, amd64, arm64 ocispec.Descriptor) {
	s = newShelf()
	amd64 = s.addImage("linux/amd64", [][]byte{[]byte("base"), []byte("amd64")})
	arm64 = s.addImage("linux/arm64/v8", [][]byte{[]byte("base"), []byte("arm64")})
	attested := func(d ocispec.Descriptor) ocispec.Descriptor {
		a := s.addImage("unknown/unknown", [][]byte{[]byte("{}" + d.Digest)})
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": d.Digest.String()}
		return a
	}
	s.addIndex([]ocispec.Descriptor{attested(amd64), amd64, attested(arm64), arm64}, "latest")
	return s, amd64, arm64
}

func TestIndexLeadsToThePlatformsImage(t *testing.T) {
	s, amd64, arm64 := multi()
	host := serve(t, s)
	for platform, want := range map[string]ocispec.Descriptor{"linux/amd64": amd64, "linux/arm64": arm64, "linux/arm64/v8": arm64, "linux/aarch64": arm64} {
		t.Run(platform, func(t *testing.T) {
			pl, err := ParsePlatform(platform)
			if err != nil {
				t.Fatal(err)
			}
			p := hasty(t, Options{Platform: pl})
			r, err := p.Resolve(t.Context(), mustParse(t, host+"/app"), openStore(t, t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			if r.Image.Descriptor.Digest != want.Digest || r.Image.Config.Architecture != want.Platform.Architecture {
				t.Fatalf("got %s for %s", r.Image.Descriptor.Digest, r.Image.Config.Architecture)
			}
			if index := digest.FromBytes(s.manifests["latest"].body); r.Image.Source != index {
				t.Fatalf("source is %s, want the index's %s", r.Image.Source, index)
			}
			if want := host + "/app:latest"; r.Image.Name != want || r.UpToDate {
				t.Fatalf("name %s, up to date %v", r.Image.Name, r.UpToDate)
			}
		})
	}
}

func TestMissingPlatformNamesThoseThatExist(t *testing.T) {
	s, _, _ := multi()
	p := hasty(t, Options{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	_, err := p.Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
	var missing *PlatformError
	if !errors.As(err, &missing) || missing.Want != "linux/riscv64" || !slices.Equal(missing.Have, []string{"linux/amd64", "linux/arm64"}) {
		t.Fatalf("error is %v", err)
	}
}

func TestVariantRules(t *testing.T) {
	for name, c := range map[string]struct {
		asked string // "" for the host's, which is host
		host  string
		have  string
		want  string // of have; "" for none
	}{
		"amd64 takes plain amd64 before a newer variant":    {"linux/amd64", "", "linux/amd64/v3 linux/amd64", "linux/amd64"},
		"amd64/v3 takes v2 rather than v1":                  {"linux/amd64/v3", "", "linux/amd64 linux/amd64/v2", "linux/amd64/v2"},
		"amd64 asked for is not 386":                        {"linux/amd64", "", "linux/386", ""},
		"a host of amd64 runs 386 if there is nothing else": {"", "linux/amd64", "linux/386", "linux/386"},
		"arm/v7 takes v6 rather than v5":                    {"linux/arm/v7", "", "linux/arm/v5 linux/arm/v6", "linux/arm/v6"},
		"arm/v6 does not take v7":                           {"linux/arm/v6", "", "linux/arm/v7", ""},
		"arm without a variant is v7":                       {"linux/arm", "", "linux/arm/v5 linux/arm/v7", "linux/arm/v7"},
		"arm64 is arm64/v8":                                 {"linux/arm64", "", "linux/arm64/v8", "linux/arm64/v8"},
		"a host of arm64 prefers arm64 to arm":              {"", "linux/arm64", "linux/arm/v7 linux/arm64", "linux/arm64"},
		"another system is no match":                        {"linux/amd64", "", "windows/amd64", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := c.asked + c.host
			want, err := ParsePlatform(spec)
			if err != nil {
				t.Fatal(err)
			}
			pick := newChooser(want)
			pick.asked = c.asked != ""
			idx := &ocispec.Index{}
			for have := range strings.FieldsSeq(c.have) {
				f := append(strings.Split(have, "/"), "")
				idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
					MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(have),
					Platform: &ocispec.Platform{OS: f[0], Architecture: f[1], Variant: f[2]},
				})
			}
			d, err := pick.choose("app", idx)
			if c.want == "" && err == nil || c.want != "" && d.Digest != digest.FromString(c.want) {
				t.Fatalf("chose %v, %v", d.Platform, err)
			}
		})
	}
}

func TestUpToDateCostsOneHead(t *testing.T) {
	s, _, _ := multi()
	host, root := serve(t, s), t.TempDir()
	if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, root)); err != nil {
		t.Fatal(err)
	}
	s.requests()

	r, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, root)) // as the next command does
	if err != nil {
		t.Fatal(err)
	}
	if got := s.requests(); !r.UpToDate || !slices.Equal(got, []string{"HEAD manifests/latest"}) {
		t.Fatalf("up to date %v after %q", r.UpToDate, got)
	}

	// The tag moves on: what both images have in common is not fetched again.
	d := s.addImage("linux/amd64", [][]byte{[]byte("base"), []byte("newer")}, "latest")
	r, err = pull(t, hasty(t, Options{}), host+"/app", openStore(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if r.UpToDate || r.Image.Source != d.Digest || s.count("GET blobs") != 1 { // the config is the same
		t.Fatalf("up to date %v, source %s, requests %q", r.UpToDate, r.Image.Source, s.requests())
	}
}

func TestMissingLayerIsNotUpToDate(t *testing.T) {
	s, _, _ := multi()
	host, root := serve(t, s), t.TempDir()
	st := openStore(t, root)
	r, err := pull(t, hasty(t, Options{}), host+"/app", st)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(st.Layout(), "blobs/sha256", r.Image.Manifest.Layers[1].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	s.requests()
	if r, err = pull(t, hasty(t, Options{}), host+"/app", st); err != nil || r.UpToDate {
		t.Fatalf("up to date %v, %v", r.UpToDate, err)
	}
	want := []string{"HEAD manifests/latest", "GET blobs/" + r.Image.Manifest.Layers[1].Digest.String()}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Fatalf("requests %q, want %q", got, want)
	}
}

func TestDigestDecidesWhatIsPulled(t *testing.T) {
	s, amd64, _ := multi()
	host := serve(t, s)
	r, err := pull(t, hasty(t, Options{}), host+"/app:other@"+amd64.Digest.String(), openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Digest != amd64.Digest {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, line := range s.requests() {
		if strings.Contains(line, "other") {
			t.Fatal("the tag was asked for:", line)
		}
	}
}

func TestHeadThatTellsNothingIsFollowedByGet(t *testing.T) {
	for name, head := range map[string]func(w http.ResponseWriter, s *shelf){
		"405":              func(w http.ResponseWriter, s *shelf) { w.WriteHeader(405) },
		"404":              func(w http.ResponseWriter, s *shelf) { w.WriteHeader(404) },
		"no digest":        func(w http.ResponseWriter, s *shelf) { w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex) },
		"no content type":  func(w http.ResponseWriter, s *shelf) { w.Header()["Content-Type"] = nil },
		"no digest's form": func(w http.ResponseWriter, s *shelf) { w.Header().Set("Docker-Content-Digest", "sha256:../../x") },
	} {
		t.Run(name, func(t *testing.T) {
			s, amd64, _ := multi()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					head(w, s)
				}
				return r.Method == http.MethodHead
			}
			r, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
			if err != nil || r.Image.Descriptor.Digest != amd64.Digest {
				t.Fatalf("got %+v, %v", r, err)
			}
		})
	}
}

// answer makes the shelf send this body for every manifest, whatever its digest.
func answer(s *shelf, mediaType, body string, header ...string) {
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/app/manifests/") {
			return false
		}
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		w.Header().Set("Content-Type", mediaType)
		if len(header) == 2 {
			w.Header().Set(header[0], header[1])
		}
		fmt.Fprint(w, body)
		return true
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	d := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hex64 + `","size":2,"platform":{"os":"linux","architecture":"amd64"}}`
	manifest := `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hex64 + `","size":2},"layers":[]}`
	index := `{"schemaVersion":2,"manifests":[` + d + `]}`
	const m, i = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	edit := func(doc, from, to string) string { return strings.Replace(doc, from, to, 1) }
	for name, c := range map[string]struct{ mediaType, body, want string }{
		"an index that is a manifest too":         {i, edit(index, `{`, `{"layers":[],`), "both an index and a manifest"},
		"an index with a config":                  {i, edit(index, `{`, `{"config":{},`), "both an index and a manifest"},
		"the same in other capitals":              {i, edit(index, `{`, `{"Layers":[],`), "both an index and a manifest"},
		"a manifest that is an index too":         {m, edit(manifest, `{`, `{"manifests":[],`), "both an index and a manifest"},
		"an index sent as a manifest":             {m, index, "both an index and a manifest"},
		"a manifest sent as an index":             {i, manifest, "both an index and a manifest"},
		"an index that calls itself a manifest":   {i, edit(index, `{`, `{"mediaType":"`+m+`",`), "calls itself"},
		"a manifest that calls itself docker's":   {m, edit(manifest, `{`, `{"mediaType":"`+dockerManifest+`",`), "calls itself"},
		"another Content-Type":                    {"text/html", manifest, "no manifest"},
		"a Content-Type that moves the cursor":    {"text/\u202e", manifest, "no manifest"},
		"signed schema 1":                         {schema1Signed, `{"schemaVersion":1}`, "schema 1"},
		"schema 1":                                {schema1, `{"schemaVersion":1}`, "schema 1"},
		"schema 1 under another name":             {m, `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"an index of schemaVersion 3":             {i, edit(index, "2", "3"), "schemaVersion 3"},
		"not JSON":                                {m, `<html>`, "invalid character"},
		"an index that is not JSON":               {i, `[`, "unexpected end"},
		"an index with a path for a digest":       {i, edit(index, hex64, "../../../etc/passwd"), "invalid checksum"},
		"an index with a digest in capitals":      {i, edit(index, hex64, strings.ToUpper(hex64)), "invalid checksum"},
		"an index with a negative size":           {i, edit(index, `"size":2`, `"size":-2`), "size -2"},
		"an index with a huge manifest":           {i, edit(index, `"size":2`, `"size":4194305`), "more than the 4194304 bytes"},
		"an index with nothing in it":             {i, `{"schemaVersion":2}`, "no image for linux/amd64"},
		"a huge manifest":                         {m, strings.Repeat(" ", maxManifest) + manifest, "more than the 4194304 bytes"},
		"a huge config":                           {m, edit(manifest, `"size":2`, `"size":8388609`), "more than the 8388608 bytes"},
		"a config of another kind":                {m, edit(manifest, "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json"), "artifact"},
		"a manifest with a path for a digest":     {m, edit(manifest, hex64, "../../../etc/passwd"), "invalid checksum"},
		"an index where a manifest was announced": {i, index, "is sent as"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			answer(s, c.mediaType, c.body)
			st := openStore(t, t.TempDir())
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), st)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one about %q", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Fatalf("the error can move the cursor: %q", err)
			}
		})
	}
}

func TestBytesAreComparedWithTheDigest(t *testing.T) {
	const manifest = `{"schemaVersion":2}`
	for name, c := range map[string]struct {
		ref    string
		header []string
	}{
		"a tag's, with what the registry says": {":latest", []string{"Docker-Content-Digest", "sha256:" + hex64}},
		"those of a digest":                    {dgst, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			answer(s, ocispec.MediaTypeImageManifest, manifest, c.header...)
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"+c.ref), openStore(t, t.TempDir()))
			var bad *store.VerifyError
			if !errors.As(err, &bad) || bad.Want.Digest != "sha256:"+hex64 || bad.GotDigest != digest.FromString(manifest) {
				t.Fatalf("error is %v, want a VerifyError", err)
			}
		})
	}
}

func TestIndexesMayNestButNotForEver(t *testing.T) {
	s := newShelf()
	want := s.addImage("linux/amd64", [][]byte{[]byte("x")})
	d := want
	for depth := range maxNesting {
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		d = s.addIndex([]ocispec.Descriptor{d}, fmt.Sprint("depth-", depth+1))
	}
	host := serve(t, s)
	r, err := pull(t, hasty(t, Options{}), fmt.Sprint(host, "/app:depth-", maxNesting-1), openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Digest != want.Digest {
		t.Fatalf("got %+v, %v", r, err)
	}
	_, err = pull(t, hasty(t, Options{}), fmt.Sprint(host, "/app:depth-", maxNesting), openStore(t, t.TempDir()))
	var mt *MediaTypeError
	if !errors.As(err, &mt) {
		t.Fatalf("error is %v, want a MediaTypeError", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"one byte differs": func(b []byte) []byte { b = slices.Clone(b); b[5] ^= 1; return b },
		"too short":        func(b []byte) []byte { return b[:len(b)-1] },
		"too long":         func(b []byte) []byte { return append(slices.Clone(b), ' ') },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			s.addImage("linux/amd64", [][]byte{[]byte("x")}, "latest")
			st := openStore(t, t.TempDir())
			var config string
			for id, b := range s.blobs {
				if b[0] == '{' {
					config, s.blobs[id] = id, spoil(b)
				}
			}
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), st)
			if err == nil || !strings.Contains(err.Error(), config) {
				t.Fatalf("error is %v, want one about the config", err)
			}
			if _, err := st.ReadBlob(ocispec.Descriptor{Digest: digest.Digest(config), Size: 1}); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("the config is in the store: %v", err)
			}
		})
	}
}

func TestImageWithoutIndexForAnotherPlatform(t *testing.T) {
	s := newShelf()
	s.addImage("linux/s390x", [][]byte{[]byte("x")}, "latest")
	host := serve(t, s)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var missing *PlatformError
	if !errors.As(err, &missing) || !slices.Equal(missing.Have, []string{"linux/s390x"}) {
		t.Fatalf("who asks for amd64 gets %v", err)
	}
	var events recorder
	r, err := pull(t, New(Options{Progress: events.add}), host+"/app", openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Platform.Architecture != "s390x" {
		t.Fatalf("who does not ask gets %v, %v", r, err)
	}
	if ws := events.all(progress.Warning); len(ws) != 1 || !strings.Contains(ws[0].Message, "linux/s390x") {
		t.Fatalf("warnings %v", ws)
	}
}

func TestStatusesHaveTypes(t *testing.T) {
	withAuths(t, `{}`)
	const evil = "pay \x1b[31mattention\x1b[0m\u202e\r\n"
	escaped := `pay \x1b[31mattention\x1b[0m\u202e\r\n`
	for name, c := range map[string]struct {
		status int
		header string
		code   string
		check  func(err error) bool
	}{
		"401": {401, "", "UNAUTHORIZED", func(err error) bool {
			var e *UnauthorizedError
			return errors.As(err, &e) && !e.LoggedIn && e.Lookup == nil
		}},
		"403": {403, "", "DENIED", func(err error) bool { var e *UnauthorizedError; return errors.As(err, &e) && e.Status == 403 }},
		"404": {404, "", "NAME_UNKNOWN", func(err error) bool { var e *NotFoundError; return errors.As(err, &e) }},
		"429 with a quota": {429, "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 0;w=21600", "TOOMANYREQUESTS", func(err error) bool {
			var e *RateLimitError
			return errors.As(err, &e) && e.Quota && e.Limit == "100;w=21600" && e.RetryAfter == 0 && !e.LoggedIn
		}},
		"429 with a long wait": {429, "Retry-After: 3600", "TOOMANYREQUESTS", func(err error) bool {
			var e *RateLimitError
			return errors.As(err, &e) && !e.Quota && e.RetryAfter.Hours() == 1
		}},
		"418": {418, "", "X", func(err error) bool { var e *StatusError; return errors.As(err, &e) && e.Host != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				for line := range strings.Lines(c.header) {
					k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
					w.Header().Set(k, v)
				}
				fail(w, c.status, c.code, evil)
				return true
			}
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
			var status *StatusError
			if !c.check(err) || !errors.As(err, &status) || status.Code != c.code || status.Message != escaped {
				t.Fatalf("error is %#v: %v", err, err)
			}
			if got := s.requests(); len(got) != 2 { // one HEAD, one GET that has the words, and no more
				t.Fatalf("requests %q", got)
			}
		})
	}
}

func TestPassingFailuresAreTriedAgain(t *testing.T) {
	for name, failure := range map[string]func(w http.ResponseWriter){
		"503":                    func(w http.ResponseWriter) { w.WriteHeader(503) },
		"500":                    func(w http.ResponseWriter) { w.WriteHeader(500) },
		"429 and a short wait":   func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) },
		"a connection cut short": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := multi()
			seen := map[string]bool{}
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				s.mu.Lock()
				first := r.Method == http.MethodGet && !seen[r.URL.Path]
				seen[r.URL.Path] = true
				s.mu.Unlock()
				if first {
					failure(w)
				}
				return first
			}
			if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWarningHeaderIsToldOnce(t *testing.T) {
	s, _, _ := multi()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Warning", `299 - "moving soon"`)
		return false
	}
	var events recorder
	if _, err := pull(t, hasty(t, Options{Progress: events.add}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if ws := events.all(progress.Warning); len(ws) != 1 || !strings.HasSuffix(ws[0].Message, ": moving soon") {
		t.Fatalf("warnings %v", ws)
	}
}
