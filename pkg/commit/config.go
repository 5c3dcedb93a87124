package commit

import (
	"encoding/json"
	"fmt"
	"maps"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// config is an image config, with what image-spec does not name in it: docker's
// Healthcheck, OnBuild and Shell, and what others may have added.
type config struct {
	ocispec.Image
	rest, configRest map[string]json.RawMessage
}

// past are properties of docker's that tell how the image was made before, and that
// would be no longer true.
var past = []string{"container", "container_config", "docker_version", "id", "parent", "parent_id"}

func (c *config) parse(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, &c.Image); err != nil {
		return fmt.Errorf("image config: %w", err)
	}
	if err := json.Unmarshal(b, &c.rest); err != nil {
		return fmt.Errorf("image config: %w", err)
	}
	for _, name := range past {
		delete(c.rest, name)
	}
	if inner := c.rest["config"]; len(inner) > 0 {
		if err := json.Unmarshal(inner, &c.configRest); err != nil {
			return fmt.Errorf("image config: %w", err)
		}
	}
	return nil
}

// marshal returns the config. The same config gives the same bytes.
func (c *config) marshal() ([]byte, error) {
	inner, err := over(c.configRest, c.Config, configNames)
	if err != nil {
		return nil, err
	}
	all, err := over(c.rest, c.Image, imageNames)
	if err != nil {
		return nil, err
	}
	if all["config"], err = json.Marshal(inner); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// What image-spec config.md names: where our own value has it not, it is gone.
var (
	configNames = []string{"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped"}
	imageNames  = []string{"created", "author", "architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history"}
)

// over lays the properties of v over those of rest.
func over(rest map[string]json.RawMessage, v any, names []string) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	own := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &own); err != nil {
		return nil, err
	}
	all := maps.Clone(rest)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	for _, name := range names {
		delete(all, name)
	}
	maps.Copy(all, own)
	return all, nil
}
