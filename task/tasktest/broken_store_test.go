package tasktest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"

	"github.com/seed1ff6f450/iotfleet/task"
)

// reporting changes the pages of ListReports.
func reporting(change func(kind task.ReportType, page *task.ReportPage)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
			page, err := b.ListReports(ctx, id, kind, token)
			if err == nil {
				change(kind, page)
			}
			return page, err
		}}
	}
}

var brokenReports = []breakage{
	{"reports/results", "the last file is left out", reporting(func(_ task.ReportType, page *task.ReportPage) {
		if page.NextToken == "" && len(page.Links) > 0 {
			page.Links = page.Links[:len(page.Links)-1]
		}
	})},
	{"reports/results", "a file is there twice and another not at all", reporting(func(_ task.ReportType, page *task.ReportPage) {
		if len(page.Links) == linksPerPage {
			page.Links[1] = page.Links[0]
		}
	})},
	{"reports/results", "only the first page", reporting(func(_ task.ReportType, page *task.ReportPage) { page.NextToken = "" })},
	{"reports/errors", "there is no such report", reporting(func(kind task.ReportType, page *task.ReportPage) {
		if kind == task.ErrorsReport {
			page.Links = nil
		}
	})},
	{"reports/errors", "the other report", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, _ task.ReportType, token string) (*task.ReportPage, error) {
			return b.ListReports(ctx, id, task.ResultsReport, token)
		}}
	}},
	{"reports/errors", "blames a good line", rewriting(`"lineNumber":2`, `"lineNumber":3`)},
	{"reports/errors", "does not say why", rewriting(`"errorMessage":`, `"note":`)},
	{"reports/again", "another order each time", func(b task.Backend) task.Backend {
		calls := 0
		return reporting(func(_ task.ReportType, page *task.ReportPage) {
			if calls++; calls%3 == 0 {
				slices.Reverse(page.Links)
			}
		})(b)
	}},
	{"reports/expired", "gives the same links again", func(b task.Backend) task.Backend {
		type question struct {
			id    task.ID
			kind  task.ReportType
			token string
		}
		answers := map[question]*task.ReportPage{}
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
			q := question{id, kind, token}
			if answers[q] == nil {
				page, err := b.ListReports(ctx, id, kind, token)
				if err != nil {
					return nil, err
				}
				answers[q] = page
			}
			return answers[q], nil
		}}
	}},
	{"reports/expired", "an expired link leads to an empty file", opening(func(_ int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
		if errors.Is(err, task.ErrLinkExpired) {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		return body, err
	})},
	{"reports/unknown", "an empty report", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
			page, err := b.ListReports(ctx, id, kind, token)
			if errors.Is(err, task.ErrNotFound) {
				return &task.ReportPage{}, nil
			}
			return page, err
		}}
	}},
}

// uploading changes what arrives, and makes length and digest fit to it.
func uploading(change func(key string, data []byte) []byte) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			data, err := io.ReadAll(in.Body)
			if err != nil {
				return nil, err
			}
			if sha256.Sum256(data) != in.SHA256 {
				return nil, &task.Error{Op: "PutObject", Code: "BadDigest", Status: 400, Kind: task.ErrChecksum}
			}
			object, err := store(ctx, b, in.Key, change(in.Key, data))
			if err == nil {
				object.Size, object.SHA256 = in.Size, in.SHA256
			}
			return object, err
		}}
	}
}

// store uploads data as it is.
func store(ctx context.Context, b task.Backend, key string, data []byte) (*task.Object, error) {
	return b.Upload(ctx, &task.UploadInput{Key: key, Body: bytes.NewReader(data), Size: int64(len(data)), SHA256: sha256.Sum256(data)})
}

// uploaded changes what Upload returns.
func uploaded(change func(o *task.Object)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			object, err := b.Upload(ctx, in)
			if err == nil {
				change(object)
			}
			return object, err
		}}
	}
}

var brokenUploads = []breakage{
	{"upload/bytes", "the last line is lost", uploading(func(_ string, data []byte) []byte {
		if i := bytes.LastIndexByte(data[:len(data)-1], '\n'); i >= 0 {
			return data[:i+1]
		}
		return data
	})},
	{"upload/length", "not compared", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			fitting := *in
			fitting.Size, _ = in.Body.Seek(0, io.SeekEnd)
			_, _ = in.Body.Seek(0, io.SeekStart)
			return b.Upload(ctx, &fitting)
		}}
	}},
	{"upload/digest", "not compared", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			data, _ := io.ReadAll(in.Body)
			return store(ctx, b, in.Key, data)
		}}
	}},
	{"upload/digest", "another kind", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			object, err := b.Upload(ctx, in)
			if errors.Is(err, task.ErrChecksum) {
				err = errOdd
			}
			return object, err
		}}
	}},
	{"upload/refusal-stores-nothing", "compared afterwards", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			data, _ := io.ReadAll(in.Body)
			object, err := store(ctx, b, in.Key, data)
			if err == nil && (object.Size != in.Size || object.SHA256 != in.SHA256) {
				err = &task.Error{Op: "PutObject", Code: "BadDigest", Status: 400, Kind: task.ErrChecksum}
			}
			return object, err
		}}
	}},
	{"upload/replaces", "the end of a longer one stays", func(b task.Backend) task.Backend {
		held := map[string][]byte{}
		return uploading(func(key string, data []byte) []byte {
			if old := held[key]; len(old) > len(data) {
				data = slices.Concat(data, old[len(data):])
			}
			held[key] = data
			return data
		})(b)
	}},
	{"upload/replaces", "the first one stays", func(b task.Backend) task.Backend {
		held := map[string][]byte{}
		return uploading(func(key string, data []byte) []byte {
			if held[key] == nil {
				held[key] = data
			}
			return held[key]
		})(b)
	}},
	{"upload/position", "reads from the start", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			_, _ = in.Body.Seek(0, io.SeekStart)
			data, _ := io.ReadAll(in.Body)
			return store(ctx, b, in.Key, data)
		}}
	}},
	{"upload/open-body", "closes it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			if c, ok := in.Body.(io.Closer); ok {
				defer func() { _ = c.Close() }()
			}
			return b.Upload(ctx, in)
		}}
	}},
	{"upload/object", "no digest", uploaded(func(o *task.Object) { o.SHA256 = [32]byte{} })},
	{"upload/object", "no size", uploaded(func(o *task.Object) { o.Size = 0 })},
	{"upload/object", "no bucket", uploaded(func(o *task.Object) { o.Bucket = "" })},
	{"upload/object", "no key", uploaded(func(o *task.Object) { o.Key = "" })},
	{"upload/unavailable", "another kind", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			object, err := b.Upload(ctx, in)
			if errors.Is(err, task.ErrUnavailable) {
				err = errOdd
			}
			return object, err
		}}
	}},
}

// opening changes bodies and errors of Open.
func opening(change func(offset int64, body io.ReadCloser, err error) (io.ReadCloser, error)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
			body, err := b.Open(ctx, link, offset)
			return change(offset, body, err)
		}}
	}
}

// rewriting changes the lines of ERRORS reports.
func rewriting(from, to string) func(b task.Backend) task.Backend {
	return opening(func(_ int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(body)
		if bytes.Contains(data, []byte(`"errorMessage"`)) {
			data = bytes.ReplaceAll(data, []byte(from), []byte(to))
		}
		return io.NopCloser(bytes.NewReader(data)), err
	})
}

// cleanEnd makes a clean end of a dropped connection.
func cleanEnd(_ int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	data, _ := io.ReadAll(body)
	return io.NopCloser(bytes.NewReader(data)), nil
}

// deny gives another error for a link that is not accepted.
func deny(_ int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
	if errors.Is(err, task.ErrLinkExpired) {
		err = &task.Error{Op: "GetObject", Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied}
	}
	return body, err
}

var brokenReads = []breakage{
	{"open/offset", "not looked at", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, _ int64) (io.ReadCloser, error) { return b.Open(ctx, link, 0) }}
	}},
	{"open/offset", "counted from 1", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
			return b.Open(ctx, link, max(0, offset-1))
		}}
	}},
	{"open/offset-at-end", "is an error", opening(func(offset int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(body)
		if len(data) == 0 && offset > 0 && err == nil {
			return nil, &task.Error{Op: "GetObject", Code: "InvalidRange", Status: 416, Kind: task.ErrInvalidRequest}
		}
		return io.NopCloser(bytes.NewReader(data)), err
	})},
	{"open/offset-at-end", "gives the last byte again", opening(func(offset int64, body io.ReadCloser, err error) (io.ReadCloser, error) {
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(body)
		if len(data) == 0 && offset > 0 {
			data = []byte("\n")
		}
		return io.NopCloser(bytes.NewReader(data)), err
	})},
	{"open/refused", "another kind", opening(deny)},
	{"open/expired", "another kind", opening(deny)},
	{"open/truncated", "a clean end", opening(cleanEnd)},
	{"open/resumed", "a clean end", opening(cleanEnd)},
	{"open/context", "not looked at once it is open", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
			return b.Open(context.WithoutCancel(ctx), link, offset)
		}}
	}},
	{"open/context", "a clean end", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
			body, err := b.Open(ctx, link, offset)
			return struct {
				io.Reader
				io.Closer
			}{untilDone{ctx, body}, body}, err
		}}
	}},
}

// untilDone ends cleanly when the context does.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, io.EOF
	}
	return u.Reader.Read(p)
}
