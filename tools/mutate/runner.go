package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// pkg is a package as the go command lists it, without the files that this machine does not build.
type pkg struct {
	Dir, ImportPath string
	GoFiles         []string
	root            string
}

func packagesOf(dir, pattern string) ([]pkg, error) {
	out, err := command(dir, "go", "list", "-json=Dir,ImportPath,GoFiles", pattern).Output()
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", pattern, withStderr(err))
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		p := pkg{root: root}
		if err := dec.Decode(&p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (p pkg) sites() ([]site, error) {
	var all []site
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		found, err := sitesOf(path, src)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(p.root, path)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			s.pkg, s.path, s.file = p.ImportPath, path, filepath.ToSlash(rel)
			all = append(all, s)
		}
	}
	return all, nil
}

// runner tries changes one after the other.
type runner struct {
	dir, work string
	timeout   time.Duration
}

func newRunner(dir string, timeout time.Duration) (*runner, error) {
	work, err := os.MkdirTemp("", "mutate")
	return &runner{dir: dir, work: work, timeout: timeout}, err
}

func (r *runner) close() { _ = os.RemoveAll(r.work) }

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// try runs tests over a change. The verdict is "" when the change does not compile.
func (r *runner) try(s site, tests []string) (verdict string, took time.Duration, err error) {
	src, err := os.ReadFile(s.path)
	if err != nil {
		return "", 0, err
	}
	changed := filepath.Join(r.work, "changed.go")
	if err := os.WriteFile(changed, s.apply(src), 0o600); err != nil {
		return "", 0, err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{s.path: changed}})
	if err != nil {
		return "", 0, err
	}
	overlayFile := filepath.Join(r.work, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", 0, err
	}
	began := time.Now()
	for _, test := range tests {
		out, err := command(r.dir, "go", "test", "-short", "-failfast", "-vet=off", "-count=1", "-ldflags=-s -w",
			"-timeout", r.timeout.String(), "-overlay", overlayFile, test).CombinedOutput()
		took = time.Since(began)
		switch {
		case err == nil:
			continue
		case exited(err) != nil:
			return "", 0, err
		case bytes.Contains(out, []byte("[build failed]")):
			return "", 0, nil
		case bytes.Contains(out, []byte("test timed out")):
			return "caught: not over in time", took, nil
		}
		if m := failedTest.FindSubmatch(out); m != nil {
			return "caught by " + string(m[1]), took, nil
		}
		return "caught: the tests ended early", took, nil
	}
	return "survived", took, nil
}

func command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// exited returns nil for a command that ran and failed: that is an answer.
func exited(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func withStderr(err error) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(e.Stderr)))
	}
	return err
}
