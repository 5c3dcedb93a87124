package registry

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
)

// lookUp reads the user's credentials for the registry, once, from where docker
// and podman keep them. No credentials are the zero AuthConfig. The caller holds r.mu.
func (r *repository) lookUp(ctx context.Context) {
	if r.credentials != nil {
		return
	}
	r.credentials = &authn.AuthConfig{}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, target{r.registry.RegistryStr(), r.path})
	if err == nil && auth == authn.Anonymous && r.domain == dockerHub {
		auth, err = dockerHubCredentials(r.path)
	}
	if err == nil && auth != authn.Anonymous {
		var c *authn.AuthConfig
		if c, err = authn.Authorization(ctx, auth); err == nil {
			*r.credentials = *c
		}
	}
	if err != nil {
		// A helper that is not installed must not keep anyone from a public image.
		r.lookup = err
		r.puller.warn(printable("credentials for " + r.domain + ": " + err.Error()))
	}
}

// target is an authn.Resource.
type target struct{ registry, path string }

func (t target) String() string      { return t.registry + "/" + t.path }
func (t target) RegistryStr() string { return t.registry }

// dockerHubCredentials finds those that the keychain does not: it knows Docker
// Hub by the key of docker login alone, https://index.docker.io/v1/, while podman
// login, and many a hand, writes the registry's plain name.
func dockerHubCredentials(path string) (authn.Authenticator, error) {
	for _, name := range authFiles() {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the keychain has said so, where it matters
		}
		var file struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		if err := json.Unmarshal(b, &file); err != nil {
			return nil, err
		}
		for _, key := range []string{dockerHub + "/" + path, dockerHub, dockerHubLegacy, "https://" + dockerHub, "https://" + dockerHubLegacy, "registry-1." + dockerHub} {
			if c, ok := file.Auths[key]; ok && c != (authn.AuthConfig{}) {
				return authn.FromConfig(c), nil
			}
		}
	}
	return authn.Anonymous, nil
}

// authFiles are docker's file and podman's, in the order of the keychain.
func authFiles() []string {
	home, _ := os.UserHomeDir()
	docker := os.Getenv("DOCKER_CONFIG")
	if docker == "" {
		docker = filepath.Join(home, ".docker")
	}
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	files := []string{filepath.Join(docker, "config.json")}
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		files = append(files, f)
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		files = append(files, filepath.Join(run, "containers", "auth.json"))
	}
	return append(files, filepath.Join(config, "containers", "auth.json"))
}
