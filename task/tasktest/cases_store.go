package tasktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
	"github.com/seed1ff6f450/iotfleet/task"
)

func uploadCases() []Case {
	const refuse = "A body whose length or SHA-256 differs from that of in must be refused with [ErrChecksum], and nothing stored under the key."
	const body = "Body must be read from its current position; it may be read more than once, and must not be closed."
	return []Case{
		{"upload/bytes", quoted("Upload", "When Upload returns nil, a task started on the returned Bucket and Key must see exactly the bytes of in.Body.",
			"A line that is lost on the way is a device that is never registered."), checkUploadBytes},
		{"upload/length", quoted("Upload", refuse, "A file that was cut off would register part of the fleet and look complete."), checkUploadLength},
		{"upload/digest", quoted("Upload", refuse, "A byte that was changed on a disk could give a device another's key."), checkUploadDigest},
		{"upload/refusal-stores-nothing", quoted("Upload", refuse, "What was refused must not be there for a task to read."), checkUploadRefusal},
		{"upload/replaces", quoted("Upload", "Uploading the same key again must replace the object whole: no reader ever sees a mixture.",
			"Lines of an older attempt would be registered again."), checkUploadReplaces},
		{"upload/position", quoted("Upload", body, "A part of a larger file is uploaded by its position."), checkUploadPosition},
		{"upload/open-body", quoted("Upload", body, "The caller's file is used again after a failed attempt."), checkUploadBody},
		{"upload/object", quoted("Upload", "The returned Object must have the size and the digest of what is stored.",
			"By them the record of a run shows what was sent."), checkUploadObject},
		{"upload/unavailable", quoted("Backend", promiseKinds,
			"A store that fails for a while is waited for; one that refuses is not."), checkUploadUnavailable},
	}
}

// runOver starts a task over an object and waits for its end, however it ends.
func (b *bench) runOver(object *task.Object) (*task.Task, *task.Description) {
	t := b.start(object)
	return t, b.ended(t)
}

func checkUploadBytes(b *bench) {
	devices, t, d := b.runSome(5)
	if d.Succeeded != len(devices) || d.Failed != 0 {
		b.Failf("of %d lines uploaded the task registered %d and refused %d", len(devices), d.Succeeded, d.Failed)
	}
	b.registered(t, devices)
}

// misstated are the ways to announce another body than the one that is uploaded.
var misstated = map[string]func(*task.UploadInput){
	"more bytes":     func(in *task.UploadInput) { in.Size++ },
	"fewer bytes":    func(in *task.UploadInput) { in.Size-- },
	"another digest": func(in *task.UploadInput) { in.SHA256[0] ^= 1 },
}

// checkMisstated uploads a file that is announced with what it does not have.
func (b *bench) checkMisstated(what ...string) {
	for _, what := range what {
		in := input(newKey(), dataFile(b.newDevices(2)))
		misstated[what](in)
		_, err := b.backend.Upload(b.ctx, in)
		b.Is(err, task.ErrChecksum, "backend.Upload of a file announced with "+what)
	}
}

func checkUploadLength(b *bench) { b.checkMisstated("more bytes", "fewer bytes") }

func checkUploadDigest(b *bench) { b.checkMisstated("another digest") }

func checkUploadRefusal(b *bench) {
	devices, key := b.newDevices(1), newKey()
	good := b.put(key, devices)
	prefix, ok := strings.CutSuffix(good.Key, key)
	if !ok {
		b.skip("the backend stores files under keys of its own, so the key of a refused one is not known")
	}
	for what, misstate := range misstated {
		in := input(newKey(), dataFile(devices))
		misstate(in)
		if _, err := b.backend.Upload(b.ctx, in); err == nil {
			b.Failf("backend.Upload took a file announced with %s", what)
		}
		lines := 0
		err := suitetest.Try(func() {
			_, d := b.runOver(&task.Object{Bucket: good.Bucket, Key: prefix + in.Key})
			lines = d.Succeeded + d.Failed
		})
		if lines > 0 {
			b.Failf("backend.Upload refused a file announced with %s, and a task found %d lines under its key", what, lines)
		}
		if b.ctx.Err() != nil {
			b.OK(err)
		}
	}
}

func checkUploadReplaces(b *bench) {
	devices := b.newDevices(4)
	key, last := newKey(), devices[3:]
	b.put(key, devices[:3])
	b.put(key, last)
	object := b.put(key, last)
	t, d := b.runOver(object)
	if d.Succeeded != 1 || d.Failed != 0 {
		b.Failf("a file of one line replaced one of three, and the task registered %d and refused %d", d.Succeeded, d.Failed)
	}
	b.registered(t, last)
}

// sharedBody is the part of a larger file behind its position, and notes being closed.
type sharedBody struct {
	*bytes.Reader
	closed bool
}

func (s *sharedBody) Close() error { s.closed = true; return nil }

// uploadShared uploads the last two of three devices out of one larger file.
func (b *bench) uploadShared() ([]device, *task.Object, *sharedBody) {
	devices := b.newDevices(3)
	whole, rest := dataFile(devices), dataFile(devices[1:])
	body := &sharedBody{Reader: bytes.NewReader(whole)}
	_, err := body.Seek(int64(len(whole)-len(rest)), io.SeekStart)
	b.OK(err)
	object, err := b.backend.Upload(b.ctx, &task.UploadInput{Key: newKey(), Body: body, Size: int64(len(rest)), SHA256: sha256.Sum256(rest)})
	b.OK(err, "backend.Upload from a position")
	return devices[1:], object, body
}

func checkUploadPosition(b *bench) {
	devices, object, _ := b.uploadShared()
	t, d := b.runOver(object)
	if d.Succeeded != len(devices) || d.Failed != 0 {
		b.Failf("2 lines stood behind the position and the task registered %d and refused %d", d.Succeeded, d.Failed)
	}
	b.registered(t, devices)
}

func checkUploadBody(b *bench) {
	if _, _, body := b.uploadShared(); body.closed {
		b.Failf("backend.Upload closed the body")
	}
}

func checkUploadObject(b *bench) {
	devices := b.newDevices(2)
	in := input(newKey(), dataFile(devices))
	object, err := b.backend.Upload(b.ctx, in)
	b.OK(err, "backend.Upload of a good file")
	switch {
	case object.Bucket == "" || object.Key == "":
		b.Failf("backend.Upload returned an Object without bucket or key: %+v", *object)
	case object.Size != in.Size || object.SHA256 != in.SHA256:
		b.Failf("backend.Upload of %d bytes with digest %x returned size %d and digest %x", in.Size, in.SHA256, object.Size, object.SHA256)
	}
}

func checkUploadUnavailable(b *bench) {
	devices := b.newDevices(2)
	lift := b.inject(FailUpload)
	_, err := b.backend.Upload(b.ctx, input(newKey(), dataFile(devices)))
	lift()
	b.Is(err, task.ErrUnavailable, "backend.Upload to a store that answers 503")
	b.upload(devices)
}

func openCases() []Case {
	const offset = "Reading from offset n must return the bytes that reading from 0 returns after its first n; an offset at the end returns no bytes and io.EOF, not an error."
	const short = "A body that ends before its announced length must end in io.ErrUnexpectedEOF, never in a clean io.EOF."
	const refused = "An expired or refused link must return [ErrLinkExpired]."
	return []Case{
		{"open/offset", quoted("Open", offset, "A download that was interrupted goes on at its byte; one byte beside it breaks a certificate."), checkOpenOffset},
		{"open/offset-at-end", quoted("Open", offset, "A connection may drop behind the very last byte."), checkOpenEnd},
		{"open/refused", quoted("Open", refused, "Only this error makes the reader ask for new links."), checkOpenRefused},
		{"open/expired", quoted("Open", refused, "Links end, and earlier than they say when the credentials behind them do."), checkOpenExpired},
		{"open/truncated", quoted("Open", short, "A report that is cut off cleanly would lose the devices of its second half without a word."), checkOpenTruncated},
		{"open/resumed", quoted("Open", short, "What was cut off is read on, line by line, as if nothing had happened."), checkOpenResumed},
		{"open/context", quoted("Open", "Once ctx is done, reading must end in an error that wraps its cause.",
			"A stop must not look like the end of the report."), checkOpenContext},
	}
}

// firstFile runs a task over a few lines and returns the first file of its RESULTS report.
func (b *bench) firstFile() (task.Link, []byte) {
	_, t, _ := b.runSome(4)
	links := b.links(t, task.ResultsReport)
	if len(links) == 0 {
		b.Failf("the RESULTS report of a task that registered lines has no link")
	}
	whole := b.read(links[0], 0)
	if len(whole) == 0 {
		b.Failf("the first file of the RESULTS report is empty")
	}
	return links[0], whole
}

func checkOpenOffset(b *bench) {
	link, whole := b.firstFile()
	size := int64(len(whole))
	for _, offset := range slices.Compact([]int64{0, 1, size / 3, size / 2, size - 1}) {
		rest := b.read(link, offset)
		if !bytes.Equal(rest, whole[offset:]) {
			b.Failf("reading from byte %d of %d returned %d bytes that are not the rest of the file", offset, size, len(rest))
		}
	}
}

func checkOpenEnd(b *bench) {
	link, whole := b.firstFile()
	if rest := b.read(link, int64(len(whole))); len(rest) > 0 {
		b.Failf("reading from the end returned %d bytes", len(rest))
	}
}

func checkOpenRefused(b *bench) {
	link, _ := b.firstFile()
	_, err := b.tryRead(badLink(link), 0)
	b.Is(err, task.ErrLinkExpired, "backend.Open of a link with a wrong signature")
}

func checkOpenExpired(b *bench) {
	link, _ := b.firstFile()
	lift := b.inject(ExpireLinks)
	defer lift()
	for _, offset := range []int64{0, 10} {
		_, err := b.tryRead(link, offset)
		b.Is(err, task.ErrLinkExpired, "backend.Open of an expired link")
	}
}

func checkOpenTruncated(b *bench) {
	link, whole := b.firstFile()
	lift := b.inject(TruncateReports)
	defer lift()
	got, err := b.tryRead(link, 0)
	switch {
	case len(got) >= len(whole):
		b.Failf("the harness cut no body: all %d bytes came", len(got))
	case !errors.Is(err, io.ErrUnexpectedEOF):
		b.Failf("a body of %d bytes ended after %d with %s, which is not io.ErrUnexpectedEOF", len(whole), len(got), said(err))
	}
}

func checkOpenResumed(b *bench) {
	devices, t, _ := b.runSome(4)
	lift := b.inject(TruncateReportsOnce)
	defer lift()
	b.registered(t, devices)
}

func checkOpenContext(b *bench) {
	link, _ := b.firstFile()
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	body, err := b.backend.Open(ctx, link, 0)
	b.OK(err, "backend.Open")
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 1))
	b.OK(err, "read the first byte")
	cause := errors.New("stopped by tasktest")
	cancel(cause)
	_, err = io.Copy(io.Discard, body)
	b.Is(err, cause, "reading after the context was cancelled")
}
