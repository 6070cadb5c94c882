package reflectortest

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestAnswersAndSaysAsWhomItSawTheAsker(t *testing.T) {
	at := Start(t, "127.0.0.1:0", "--echo-info")
	probe := Ask(t, at[0])
	if probe.Verdict != "ok" || probe.ExitCode != 0 {
		t.Fatalf("%+v", probe)
	}
	if probe.Told == nil || probe.Told.Peer != probe.Local || probe.Told.Local != at[0] {
		t.Fatalf("%+v, %+v", probe, probe.Told)
	}
}

func TestListensAtEachFamily(t *testing.T) {
	for _, at := range Start(t, "127.0.0.1:0", "--listen", "[::1]:0") {
		if probe := Ask(t, at, "--connected"); probe.Verdict != "ok" {
			t.Errorf("%s: %+v", at, probe)
		}
	}
}

func TestIsGoneWithItsTest(t *testing.T) {
	var at []string
	t.Run("starts it", func(t *testing.T) { at = Start(t, "127.0.0.1:0") })
	if probe := Ask(t, at[0]); probe.Verdict != "refused" || probe.ExitCode != 6 {
		t.Fatalf("%+v", probe)
	}
}

func TestSilenceIsAVerdict(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	probe := Ask(t, silent.LocalAddr().String(), "--expect", "timeout", "--timeout", "100ms")
	if probe.Verdict != "timeout" || probe.ExitCode != 0 {
		t.Fatalf("%+v", probe)
	}
}

func TestWatchSeesARestart(t *testing.T) {
	var at []string
	var stop func() Summary
	t.Run("runs", func(subtest *testing.T) {
		at = Start(subtest, "127.0.0.1:0")
		stop = Watch(t, at[0], "--max-lost", "0")
		Ask(subtest, at[0])
	})
	// Some of what is sent every 10 ms comes to nobody.
	time.Sleep(500 * time.Millisecond)
	Start(t, at[0])
	if probe := Ask(t, at[0]); probe.Verdict != "ok" {
		t.Fatalf("%+v", probe)
	}
	summary := stop()
	if summary.Gaps == 0 || summary.Unanswered == 0 || summary.Longest == nil {
		t.Errorf("no gap: %+v", summary)
	}
	if summary.ExitCode != 5 || len(summary.Missed) == 0 {
		t.Errorf("--max-lost: %+v", summary)
	}
}

func TestWatchSeesNothingWhereNothingIs(t *testing.T) {
	stop := Watch(t, Start(t, "127.0.0.1:0")[0], "--max-gap", "5s")
	time.Sleep(100 * time.Millisecond)
	summary := stop()
	if summary.Sent == 0 || summary.Gaps > 0 || summary.ExitCode != 0 {
		t.Fatalf("%+v", summary)
	}
}

// A testing.TB that keeps what it is told.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestFailsTheTestWithWhatTheProgramSaid(t *testing.T) {
	fake := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Start(fake, "127.0.0.1:0", "--no-such-option")
	}()
	<-done
	if !strings.Contains(fake.said, "unexpected argument '--no-such-option'") {
		t.Fatalf("it says %q", fake.said)
	}
}
