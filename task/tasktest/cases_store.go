package tasktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
			"The record of a run says by them what was sent."), checkUploadObject},
		{"upload/unavailable", quoted("Backend", "Errors returned by a Backend must wrap [*Error] when the service answered, and one of this package's Err sentinels whenever one fits.",
			"A store that fails for a while is waited for; one that refuses is not."), checkUploadUnavailable},
	}
}

// runOver starts a task over an object and waits for its end, however it ends.
func (b *bench) runOver(object *task.Object) (*task.Task, *task.Description, error) {
	t, err := b.start(object)
	if err != nil {
		return nil, nil, err
	}
	d, err := t.Wait(b.ctx, b.waiting(nil))
	if d != nil && d.Status.Done() {
		err = nil
	}
	return t, d, err
}

func checkUploadBytes(b *bench) error {
	devices, t, d, err := b.runSome(5)
	if err != nil {
		return err
	}
	if d.Succeeded != len(devices) || d.Failed != 0 {
		return fmt.Errorf("of %d lines uploaded the task registered %d and refused %d", len(devices), d.Succeeded, d.Failed)
	}
	return b.registered(t, devices)
}

// refused uploads under a new key what in says wrongly.
func (b *bench) refused(change func(*task.UploadInput)) error {
	devices, err := b.newDevices(2)
	if err != nil {
		return err
	}
	in := input(newKey(), dataFile(devices))
	change(in)
	if _, err := b.backend.Upload(b.ctx, in); !errors.Is(err, task.ErrChecksum) {
		return fmt.Errorf("backend.Upload gave %s, which is not ErrChecksum", said(err))
	}
	return nil
}

func checkUploadLength(b *bench) error {
	return errors.Join(
		b.refused(func(in *task.UploadInput) { in.Size++ }),
		b.refused(func(in *task.UploadInput) { in.Size-- }))
}

func checkUploadDigest(b *bench) error {
	return b.refused(func(in *task.UploadInput) { in.SHA256[0] ^= 1 })
}

func checkUploadRefusal(b *bench) error {
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	key, file := newKey(), dataFile(devices)
	good, err := b.backend.Upload(b.ctx, input(key, file))
	if err != nil {
		return fmt.Errorf("backend.Upload of a good file: %w", err)
	}
	prefix, ok := strings.CutSuffix(good.Key, key)
	if !ok {
		return &SkipError{"the backend stores files under keys of its own, so the key of a refused one is not known"}
	}
	for what, change := range map[string]func(*task.UploadInput){
		"length": func(in *task.UploadInput) { in.Size++ },
		"digest": func(in *task.UploadInput) { in.SHA256[0] ^= 1 },
	} {
		in := input(newKey(), file)
		change(in)
		if _, err := b.backend.Upload(b.ctx, in); err == nil {
			return fmt.Errorf("backend.Upload took a file of another %s than announced", what)
		}
		_, d, err := b.runOver(&task.Object{Bucket: good.Bucket, Key: prefix + in.Key})
		if err == nil && d.Succeeded+d.Failed > 0 {
			return fmt.Errorf("backend.Upload refused a file of another %s than announced, and a task found %d lines under its key", what, d.Succeeded+d.Failed)
		}
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
	}
	return nil
}

func checkUploadReplaces(b *bench) error {
	devices, err := b.newDevices(4)
	if err != nil {
		return err
	}
	key, last := newKey(), devices[3:]
	for _, part := range [][]device{devices[:3], last} {
		if _, err := b.backend.Upload(b.ctx, input(key, dataFile(part))); err != nil {
			return fmt.Errorf("backend.Upload: %w", err)
		}
	}
	object, err := b.backend.Upload(b.ctx, input(key, dataFile(last)))
	if err != nil {
		return fmt.Errorf("backend.Upload: %w", err)
	}
	t, d, err := b.runOver(object)
	if err != nil {
		return err
	}
	if d.Succeeded != 1 || d.Failed != 0 {
		return fmt.Errorf("a file of one line replaced one of three, and the task registered %d and refused %d", d.Succeeded, d.Failed)
	}
	return b.registered(t, last)
}

// sharedBody is the part of a larger file behind its position, and notes being closed.
type sharedBody struct {
	*bytes.Reader
	closed bool
}

func (s *sharedBody) Close() error { s.closed = true; return nil }

// uploadShared uploads the last two of three devices out of one larger file.
func (b *bench) uploadShared() ([]device, *task.Object, *sharedBody, error) {
	devices, err := b.newDevices(3)
	if err != nil {
		return nil, nil, nil, err
	}
	whole, rest := dataFile(devices), dataFile(devices[1:])
	body := &sharedBody{Reader: bytes.NewReader(whole)}
	if _, err := body.Seek(int64(len(whole)-len(rest)), io.SeekStart); err != nil {
		return nil, nil, nil, err
	}
	object, err := b.backend.Upload(b.ctx, &task.UploadInput{Key: newKey(), Body: body, Size: int64(len(rest)), SHA256: sha256.Sum256(rest)})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("backend.Upload from a position: %w", err)
	}
	return devices[1:], object, body, nil
}

func checkUploadPosition(b *bench) error {
	devices, object, _, err := b.uploadShared()
	if err != nil {
		return err
	}
	t, d, err := b.runOver(object)
	if err != nil {
		return err
	}
	if d.Succeeded != len(devices) || d.Failed != 0 {
		return fmt.Errorf("2 lines stood behind the position and the task registered %d and refused %d", d.Succeeded, d.Failed)
	}
	return b.registered(t, devices)
}

func checkUploadBody(b *bench) error {
	_, _, body, err := b.uploadShared()
	if err == nil && body.closed {
		err = errors.New("backend.Upload closed the body")
	}
	return err
}

func checkUploadObject(b *bench) error {
	devices, err := b.newDevices(2)
	if err != nil {
		return err
	}
	in := input(newKey(), dataFile(devices))
	object, err := b.backend.Upload(b.ctx, in)
	switch {
	case err != nil:
		return fmt.Errorf("backend.Upload of a good file: %w", err)
	case object.Bucket == "" || object.Key == "":
		return fmt.Errorf("backend.Upload returned an Object without bucket or key: %+v", *object)
	case object.Size != in.Size || object.SHA256 != in.SHA256:
		return fmt.Errorf("backend.Upload of %d bytes with digest %x returned size %d and digest %x", in.Size, in.SHA256, object.Size, object.SHA256)
	}
	return nil
}

func checkUploadUnavailable(b *bench) error {
	devices, err := b.newDevices(2)
	if err != nil {
		return err
	}
	lift, err := b.inject(FailUpload)
	if err != nil {
		return err
	}
	_, err = b.backend.Upload(b.ctx, input(newKey(), dataFile(devices)))
	lift()
	if !errors.Is(err, task.ErrUnavailable) {
		return fmt.Errorf("backend.Upload to a store that answers 503 gave %s, which is not ErrUnavailable", said(err))
	}
	_, err = b.upload(devices)
	return err
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
func (b *bench) firstFile() (task.Link, []byte, error) {
	_, t, _, err := b.runSome(4)
	if err != nil {
		return task.Link{}, nil, err
	}
	links, err := b.links(t, task.ResultsReport)
	if err != nil {
		return task.Link{}, nil, err
	}
	if len(links) == 0 {
		return task.Link{}, nil, errors.New("the RESULTS report of a task that registered lines has no link")
	}
	whole, err := b.read(links[0], 0)
	if err == nil && len(whole) == 0 {
		err = errors.New("the first file of the RESULTS report is empty")
	}
	return links[0], whole, err
}

func checkOpenOffset(b *bench) error {
	link, whole, err := b.firstFile()
	if err != nil {
		return err
	}
	size := int64(len(whole))
	for _, offset := range slices.Compact([]int64{0, 1, size / 3, size / 2, size - 1}) {
		rest, err := b.read(link, offset)
		if err != nil {
			return err
		}
		if !bytes.Equal(rest, whole[offset:]) {
			return fmt.Errorf("reading from byte %d of %d gave %d bytes that are not the rest of the file", offset, size, len(rest))
		}
	}
	return nil
}

func checkOpenEnd(b *bench) error {
	link, whole, err := b.firstFile()
	if err != nil {
		return err
	}
	rest, err := b.read(link, int64(len(whole)))
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("reading from the end gave %d bytes", len(rest))
	}
	return err
}

func checkOpenRefused(b *bench) error {
	link, _, err := b.firstFile()
	if err != nil {
		return err
	}
	if _, err := b.read(badLink(link), 0); !errors.Is(err, task.ErrLinkExpired) {
		return fmt.Errorf("backend.Open of a link with a wrong signature gave %s, which is not ErrLinkExpired", said(err))
	}
	return nil
}

func checkOpenExpired(b *bench) error {
	link, _, err := b.firstFile()
	if err != nil {
		return err
	}
	lift, err := b.inject(ExpireLinks)
	if err != nil {
		return err
	}
	defer lift()
	for _, offset := range []int64{0, 10} {
		if _, err := b.read(link, offset); !errors.Is(err, task.ErrLinkExpired) {
			return fmt.Errorf("backend.Open of an expired link gave %s, which is not ErrLinkExpired", said(err))
		}
	}
	return nil
}

func checkOpenTruncated(b *bench) error {
	link, whole, err := b.firstFile()
	if err != nil {
		return err
	}
	lift, err := b.inject(TruncateReports)
	if err != nil {
		return err
	}
	defer lift()
	got, err := b.read(link, 0)
	switch {
	case len(got) >= len(whole):
		return fmt.Errorf("the harness cut no body: all %d bytes came", len(got))
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("a body of %d bytes ended after %d with %s, which is not io.ErrUnexpectedEOF", len(whole), len(got), said(err))
	}
	return nil
}

func checkOpenResumed(b *bench) error {
	devices, t, _, err := b.runSome(4)
	if err != nil {
		return err
	}
	lift, err := b.inject(TruncateReportsOnce)
	if err != nil {
		return err
	}
	defer lift()
	return b.registered(t, devices)
}

func checkOpenContext(b *bench) error {
	link, _, err := b.firstFile()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	body, err := b.backend.Open(ctx, link, 0)
	if err != nil {
		return fmt.Errorf("backend.Open: %w", err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
		return fmt.Errorf("read the first byte: %w", err)
	}
	cause := errors.New("stopped by tasktest")
	cancel(cause)
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, cause) {
		return fmt.Errorf("reading after the context was cancelled ended with %s, which does not wrap the context's cause", said(err))
	}
	return nil
}
