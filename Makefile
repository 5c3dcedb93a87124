# peel. `make demo` shows what it does, `make test` proves it.

GO         ?= go
PREFIX     ?= /usr/local
STATICCHECK = $(GO) tool -modfile=tools/go.mod staticcheck

.PHONY: all build man install demo test setup check generated unit defences e2e bench bench-inflate clean

all: build

# One static binary, without cgo.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o peel ./cmd/peel

# The manual, made of what the verbs say of themselves, dated by the last commit.
man:
	SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}" $(GO) run -tags man ./cmd/peel man

# The binary, its manual, and what completes its words in bash, zsh and fish.
install: build man
	install -D -m 755 peel $(DESTDIR)$(PREFIX)/bin/peel
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(foreach d,bash-completion/completions zsh/site-functions fish/vendor_completions.d,$(DESTDIR)$(PREFIX)/share/$(d))
	./peel completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/peel
	./peel completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_peel
	./peel completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/peel.fish

demo: build
	e2e/demo.sh

# Everything: what CI runs. `setup` installs what the tests need from Debian's
# packages; a test that lacks a tool all the same says so and is skipped.
test: setup check generated unit defences e2e

setup:
	e2e/setup.sh

check:
	@test -z "$$(gofmt -l .)" || { echo 'gofmt would change:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(GO) vet -tags man ./cmd/peel
	$(STATICCHECK) ./...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -o /dev/null ./cmd/peel

# What is generated is what its generators make now.
generated:
	$(GO) generate ./...
	@git diff --exit-code -- $$(git grep -l '^// Code generated .*DO NOT EDIT' -- '*.go' '*.s') || { echo 'go generate changes files that are committed'; exit 1; }

unit:
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v '^peel/e2e')

# Every defence taken out in turn, which the test of its attack has to notice.
defences:
	PEEL_DEFENCES=1 $(GO) test -count=1 ./e2e/defences

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
	rm -rf peel man
