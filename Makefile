# Versions of the tools that are not in go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GO      ?= go
FUZZTIME ?= 5s

# One set of flags for build and tests, so that nothing is compiled twice.
export GOFLAGS := $(GOFLAGS) -trimpath -buildvcs=false

# What computes with the kernels: tested once more without cgo, with the kernels in plain Go.
PLAIN = ./internal/cpu/... ./internal/engine ./encode ./sample

.PHONY: build demo test plain race bench lint golden fuzz-smoke docs clean

build: ## the program, bin/ldm-batch
	$(GO) build -ldflags "-X main.version=$(VERSION)" -o bin/ldm-batch ./cmd/ldm-batch

demo: build ## encode, generate, upscale, inpaint and score with the models that come along: demo/index.html
	@bin/ldm-batch demo

test: ## every test
	$(GO) test ./...

plain: ## the numerics without cgo; -short leaves out what tests the use of networks rather than their kernels
	CGO_ENABLED=0 $(GO) test -short $(PLAIN)

race: ## every test under the race detector
	$(GO) test -race ./...

bench: ## the networks alone; bench/README.md says how to compare with other programs
	$(GO) test -run '^$$' -bench . ./bench

lint: ## formatting, vet, staticcheck
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -l: $$files"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

golden: ## the comparisons with reference vectors, one line each: name, error, tolerance
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	$(GO) test -count=1 -v ./... >"$$log" 2>&1; status=$$?; \
	sed -nE 's/.*[a-z_]+\.go:[0-9]+: (golden [^ ].* error .* tolerance .*)/\1/p' "$$log" | sort; \
	grep -E '^ *--- (FAIL|SKIP)|NOTHING COMPARED|^(FAIL|panic)' "$$log" || true; \
	n=$$(grep -cE ': golden [^ ].* error .* tolerance ' "$$log"); echo "$$n comparisons"; \
	test "$$n" -gt 0 && exit $$status

fuzz-smoke: ## every fuzz target for a short time
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' "$$file"); do \
	    echo "$$(dirname "$$file") $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
	  done; \
	done

docs: build ## generated references
	bin/ldm-batch gen-docs docs
	$(GO) test ./jobs/spec -run '^(TestReference|TestSchemaFile)$$' -update

clean:
	rm -rf bin demo bench/out
