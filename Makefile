# peel. `make demo` shows what it does, `make test` proves it.

GO         ?= go
STATICCHECK = $(GO) tool -modfile=tools/go.mod staticcheck

.PHONY: all build install demo test setup check generated unit e2e bench bench-inflate clean

all: build

# One static binary, without cgo.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o peel ./cmd/peel

install:
	CGO_ENABLED=0 $(GO) install -trimpath -ldflags='-s -w' ./cmd/peel

demo: build
	e2e/demo.sh

# Everything: what CI runs. `setup` installs what the tests need from Debian's
# packages; a test that lacks a tool all the same says so and is skipped.
test: setup check generated unit e2e

setup:
	e2e/setup.sh

check:
	@test -z "$$(gofmt -l .)" || { echo 'gofmt would change:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(STATICCHECK) ./...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -o /dev/null ./cmd/peel

# What is generated is what its generators make now.
generated:
	$(GO) generate ./...
	@git diff --exit-code -- $$(git grep -l '^// Code generated .*DO NOT EDIT' -- '*.go' '*.s') || { echo 'go generate changes files that are committed'; exit 1; }

unit:
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list ./... | grep -v '^peel/e2e')

e2e: build
	$(GO) test -v -timeout 40m ./e2e/...

# peel beside its peers, as root: a table, and figures and a plot of every run.
# Other images: make bench IMAGES=many,single,huge; the last takes 12 GB of memory.
IMAGES ?= nginx,big
bench: setup
	$(GO) run ./bench/peers -images $(IMAGES) -out bench/peers/results

# The decoder of layers beside zlib, libdeflate, ISA-L and other Go packages.
bench-inflate:
	$(GO) run ./bench/inflate

clean:
	rm -f peel
