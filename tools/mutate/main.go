// Mutate measures whether the tests notice when the code is wrong. It changes one line at a time, runs the tests of the
// package, and reports which changes they caught.
//
//	go -C tools run ./mutate -seed 9 -n 60
//	go -C tools run ./mutate -seed 9 -n 5 ./provision
//	go -C tools run ./mutate -list ./csr            # what could be changed
//
// Arguments are package patterns; the default is every package whose faults a user would suffer from. Each argument is
// a target of its own, and the changes are shared out evenly among targets. An argument may name packages whose tests
// count as well, run after the package's own: ./task=./task/tasktest.
//
// The same seed on the same code draws the same changes. A change that does not compile is drawn again. A change is
// caught when a test fails, or is not over after -timeout, since a run that hangs is noticed, too. Nothing in the
// working tree is touched: the changed file is handed to the go command with -overlay.
//
// What is printed is a Markdown table, see docs/mutations.md. The exit code is 0 however many changes survive.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

var defaultTargets = []string{
	"./provision", "./task=./task/tasktest", "./awsbackend", "./csr", "./datafile", "./fakebackend/...=./fakebackend/fakeaws,./task/tasktest",
}

func main() {
	dir := flag.String("dir", "..", "the `folder` of the module whose code is changed")
	seed := flag.Uint64("seed", 1, "which changes are drawn")
	n := flag.Int("n", 60, "how many changes, over all targets")
	timeout := flag.Duration("timeout", 10*time.Minute, "how long the tests of a package may run; longer is caught")
	list := flag.Bool("list", false, "list what could be changed, and change nothing")
	flag.Parse()
	targets := flag.Args()
	if len(targets) == 0 {
		targets = defaultTargets
	}
	if err := measure(*dir, targets, *seed, *n, *timeout, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func measure(dir string, targets []string, seed uint64, n int, timeout time.Duration, list bool) error {
	runner, err := newRunner(dir, timeout)
	if err != nil {
		return err
	}
	defer runner.close()
	if !list {
		fmt.Printf("| place | function | change | verdict | time |\n|---|---|---|---|---|\n")
	}
	var caught, survived int
	for i, target := range targets {
		pattern, more, _ := strings.Cut(target, "=")
		packages, err := packagesOf(dir, pattern)
		if err != nil {
			return err
		}
		var sites []site
		for _, p := range packages {
			found, err := p.sites()
			if err != nil {
				return err
			}
			sites = append(sites, found...)
		}
		if list {
			for _, s := range sites {
				fmt.Println(s)
			}
			continue
		}
		share := n / len(targets)
		if i < n%len(targets) {
			share++
		}
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		random.Shuffle(len(sites), func(i, j int) { sites[i], sites[j] = sites[j], sites[i] })
		for _, s := range sites {
			if share == 0 {
				break
			}
			verdict, took, err := runner.try(s, testsOf(s.pkg, more))
			if err != nil {
				return err
			}
			if verdict == "" { // it does not compile
				continue
			}
			share--
			if verdict == "survived" {
				survived++
			} else {
				caught++
			}
			fmt.Printf("| %s:%d | %s | %s | %s | %v |\n", s.file, s.line, s.function, s.change(), verdict, took.Round(time.Second))
		}
	}
	if !list {
		fmt.Printf("\n%d caught, %d survived: %.0f %%\n", caught, survived, 100*float64(caught)/float64(max(1, caught+survived)))
	}
	return nil
}

// testsOf lists the packages whose tests judge a change of pkg, its own first.
func testsOf(pkg, more string) []string {
	tests := []string{pkg}
	if more != "" {
		tests = append(tests, strings.Split(more, ",")...)
	}
	return tests
}
