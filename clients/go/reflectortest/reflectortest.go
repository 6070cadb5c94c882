// Package reflectortest starts a UDP reflector for a test, and asks UDP services as `reflector
// probe` and `reflector watch` do. It needs the program in $UDP_REFLECTOR or in $PATH.
package reflectortest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Probe is what `reflector probe --json` prints, as far as tests need it.
type Probe struct {
	Verdict  string                        // "ok", "timeout", "wrong-source", "loss", "refused" or "unreachable"
	ExitCode int                           `json:"exit_code"` // 0 if it is what --expect says, too
	Elapsed  float64                       `json:"elapsed_ms"`
	Local    string                        // the address that it was asked from
	Told     *struct{ Peer, Local string } // how the server saw it, with --echo-info
}

// Summary is what `reflector watch --json` prints at the end.
type Summary struct {
	Sent, Unanswered, Gaps int
	Longest                *struct {
		Length float64 `json:"length_ms"`
	} `json:"longest_gap"`
	Missed   []json.RawMessage // the thresholds, such as --max-gap, that were exceeded
	ExitCode int               `json:"exit_code"`
}

// Start starts a reflector at listen, such as "127.0.0.1:0", which is gone when the test is over,
// however it ends, and returns the addresses at which it answers.
func Start(t testing.TB, listen string, args ...string) []string {
	t.Helper()
	args = append([]string{"--listen", listen, "--ready-line", "--until-eof"}, args...)
	cmd := command(args...)
	stdin, err := cmd.StdinPipe()
	must(t, cmd, err)
	line, out := start(t, cmd)
	t.Cleanup(func() {
		stdin.Close()
		for out.Scan() {
		} // What is not read could block it.
		must(t, cmd, cmd.Wait())
	})
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "ready" {
		t.Fatalf("%v says %q", cmd, line)
	}
	return words[1:]
}

// Ask asks target, with any options of `reflector probe`. Silence is a verdict, not a failure.
func Ask(t testing.TB, target string, args ...string) (probe Probe) {
	t.Helper()
	cmd := command(append([]string{"probe", target, "--json"}, args...)...)
	out, err := cmd.Output()
	if len(out) == 0 {
		must(t, cmd, err)
	}
	must(t, cmd, json.Unmarshal(out, &probe))
	return probe
}

// Watch watches target, with any options of `reflector watch`, until the returned function is
// called, which tells what became of it.
func Watch(t testing.TB, target string, args ...string) (stop func() Summary) {
	t.Helper()
	cmd := command(append([]string{"watch", target, "--json"}, args...)...)
	_, out := start(t, cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // One that has ended is an error that is none.
	return func() (summary Summary) {
		t.Helper()
		must(t, cmd, cmd.Process.Signal(syscall.SIGINT))
		var last []byte
		for out.Scan() {
			last = append(last[:0], out.Bytes()...)
		}
		_ = cmd.Wait() // The exit code is in the summary.
		must(t, cmd, json.Unmarshal(last, &summary))
		return summary
	}
}

// start starts cmd, and waits for its first line.
func start(t testing.TB, cmd *exec.Cmd) (string, *bufio.Scanner) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	must(t, cmd, err)
	must(t, cmd, cmd.Start())
	defer time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
	out := bufio.NewScanner(stdout)
	if !out.Scan() {
		_ = cmd.Wait()
		t.Fatalf("%v is not ready: %s", cmd, cmd.Stderr)
	}
	return out.Text(), out
}

func command(args ...string) *exec.Cmd {
	program := os.Getenv("UDP_REFLECTOR")
	if program == "" {
		program = "reflector"
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

func must(t testing.TB, cmd *exec.Cmd, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v: %v: %v", cmd, err, cmd.Stderr)
	}
}
