package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// The environment variable that turns the test binary into a client which
// fetches one URL, so that it can be started in another network namespace.
const getEnv = "PEEL_E2E_GET"

func get(url string) int {
	c := http.Client{Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return 1
	}
	return 0
}
