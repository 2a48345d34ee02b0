package provision_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

// haystack is everything that a run shows to anybody.
type haystack struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *haystack) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

// show prints a value in every way people print values.
func (h *haystack) show(v any) {
	fmt.Fprintf(h, "%v\n%+v\n%#v\n%s\n", v, v, v, v)
	if text, err := json.Marshal(v); err == nil {
		h.Write(text)
	}
	slog.New(slog.NewJSONHandler(h, nil)).Info("shown", "value", v)
}

// file adds the bytes of every file below a folder, key files left out.
func (h *haystack) files(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "private-key.pem" {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s\n%s\n", path, data)
		return err
	}))
}

// needles are the forms in which a secret could show.
func needles(t *testing.T, key csr.PrivateKey) map[string][]byte {
	t.Helper()
	text, err := key.PEM()
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	scalar, err := parsed.(*ecdsa.PrivateKey).Bytes()
	require.NoError(t, err)
	body := strings.Split(strings.TrimSpace(string(text)), "\n")
	d := new(big.Int).SetBytes(scalar)
	out := map[string][]byte{
		"decimal":            []byte(d.String()),
		"hexadecimal":        []byte(d.Text(16)), // a number prints without the leading zeros that bytes have
		"HEXADECIMAL":        fmt.Appendf(nil, "%X", d),
		"words of a big.Int": []byte(strings.Trim(fmt.Sprint(d.Bits()), "[]")),
	}
	for i, line := range body[1 : len(body)-1] {
		if i > 0 || len(body) == 3 { // the first line of every P-256 key begins alike; a line behind it is the key's own
			out[fmt.Sprint("PEM line ", i)] = []byte(line)
		}
	}
	for name, raw := range map[string][]byte{"DER": block.Bytes, "scalar": scalar} {
		out[name] = raw
		out[name+" in hex"] = []byte(hex.EncodeToString(raw))
		out[name+" in upper-case hex"] = []byte(strings.ToUpper(hex.EncodeToString(raw)))
		out[name+" in base64"] = []byte(base64.RawStdEncoding.EncodeToString(raw))
		out[name+" in base64url"] = []byte(base64.RawURLEncoding.EncodeToString(raw))
		out[name+" as Go bytes"] = []byte(strings.Trim(fmt.Sprintf("%v", raw), "[]"))
		out[name+" as Go syntax"] = []byte(strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{"), "}"))
	}
	return out
}

func (h *haystack) search(t *testing.T, whose string, needles map[string][]byte) (found int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for form, n := range needles {
		if len(n) < 16 {
			t.Fatalf("%s of %s is too short to search for", form, whose)
		}
		if i := bytes.Index(h.text.Bytes(), n); i >= 0 {
			found++
		}
	}
	return found
}

// linkWatcher tells of the links that are given out. It holds none itself, as it is printed, too.
type linkWatcher struct {
	task.Backend
	tell func(url string)
}

func (w *linkWatcher) Unwrap() task.Backend { return w.Backend }

func (w *linkWatcher) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	page, err := w.Backend.ListReports(ctx, id, kind, token)
	if err == nil {
		for _, l := range page.Links {
			w.tell(l.URL())
		}
	}
	return page, err
}

// requireNot fails with what stands before a secret, so that its place is found.
func requireNot(t *testing.T, h *haystack, secret string) {
	t.Helper()
	text := h.text.Bytes()
	if i := bytes.Index(text, []byte(secret)); i >= 0 {
		t.Fatalf("a secret shows behind …%s", text[max(0, i-1200):i])
	}
}

func TestNoSecretIsEverShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
		var shown haystack
		log := slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
		w := folderWorld(t, fakebackend.Options{LinesPerReport: 2, Rate: 5}).withType(t)
		cfg := fakeaws.NewHandler(w.fake, fakeaws.Options{Logger: log}).Config()
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secretKey, SessionToken: "the-session-token-of-this-test"}, nil
		})
		backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "iotfleet-fake", Logger: log})
		require.NoError(t, err)
		var links []string
		var mu sync.Mutex
		watcher := &linkWatcher{backend, func(url string) {
			mu.Lock()
			defer mu.Unlock()
			links = append(links, url)
		}}
		w.opts.Backend = watcher
		dir := t.TempDir()
		ledger, err := sqliteledger.Open(t.Context(), filepath.Join(dir, "fleet.db"), nil)
		require.NoError(t, err)
		defer ledger.Close()
		w.opts.Ledger, w.opts.PartDir, w.opts.PartLines = ledger, filepath.Join(dir, "parts"), 4
		w.opts.Observe = func(e provision.Event) { shown.show(e) }

		// All goes wrong that has a text: every kind of fault in turn, until the run is over.
		for _, f := range []fakebackend.Fault{
			{Operation: "GetObject", Do: fakebackend.Expire}, {Operation: "GetObject", Nth: 2, Do: fakebackend.Truncate, Bytes: 700},
			{Operation: "GetObject", Nth: 3, Do: fakebackend.Fail, Code: "AccessDenied"}, {Operation: "GetObject", Nth: 4, Do: fakebackend.DropAfter},
			{Operation: "ListThingRegistrationTaskReports", Do: fakebackend.Fail, Code: "UnauthorizedException"},
			{Operation: "StartThingRegistrationTask", Do: fakebackend.DropAfter},
			{Operation: "PutObject", Do: fakebackend.Fail, Code: "AccessDenied"}, {Line: 3, Step: fakebackend.StepThing, Do: fakebackend.Throttle},
			{Operation: "RegisterThing", Do: fakebackend.DropAfter}, {Operation: "DescribeThing", Do: fakebackend.Fail, Code: "AccessDeniedException"},
		} {
			w.fault(t, f)
		}
		var run *provision.Run
		devices := provision.Devices(ofType("a", "known"), ofType("b", "gone"), ofType("c", "known"), ofType("d d", "x"), ofType("e", "known"), ofType("f", "known"))
		over := false
		for range 20 {
			run = w.run(t)
			summary, err := run.Run(t.Context(), devices)
			shown.show(err)
			shown.show(summary)
			shown.show(run)
			if over = summary != nil; over {
				break
			}
		}
		require.True(t, over, "the faults never end")
		for range 3 {
			res, err := run.Register(t.Context(), ofType("board", "known"))
			shown.show(res)
			shown.show(err)
		}
		shown.show(w.opts)
		shown.show(w.opts.Credential)
		shown.show(backend)
		shown.show(w.keys)
		for d, err := range ledger.Devices(t.Context(), provision.DeviceFilter{}) {
			require.NoError(t, err)
			shown.show(d)
			if rec, err := w.keys.Get(t.Context(), d.Name); err == nil {
				shown.show(rec)
				shown.show(&rec)
			}
		}
		for id := range taskIDs(t, watcher) {
			page, err := watcher.ListReports(t.Context(), id, task.ResultsReport, "")
			require.NoError(t, err)
			shown.show(page)
		}
		require.NoError(t, run.WriteManifest(t.Context(), dir))
		shown.files(t, dir)
		shown.files(t, filepath.Dir(w.folder.Path("a")))
		func() { // what a program prints when it panics
			defer func() { fmt.Fprintf(&shown, "panic: %v", recover()) }()
			panic(fmt.Sprintf("%+v %+v", run, w.opts))
		}()

		keys := 0
		for device, err := range w.folder.Devices(t.Context()) {
			require.NoError(t, err)
			rec, err := w.keys.Get(t.Context(), device)
			require.NoError(t, err)
			n := needles(t, rec.Key)
			assert.Zero(t, shown.search(t, device, n), "the key of %s shows", device)
			keys++

			// The search itself is good for something: it finds each form where it is.
			var planted haystack
			for _, form := range n {
				planted.Write(append(form, '\n'))
			}
			assert.Equal(t, len(n), planted.search(t, device, n))
		}
		assert.GreaterOrEqual(t, keys, 5)
		require.NotEmpty(t, links)
		for _, l := range links {
			u, err := url.Parse(l)
			require.NoError(t, err)
			signature := u.Query().Get("X-Amz-Signature")
			require.NotEmpty(t, signature)
			requireNot(t, &shown, signature)
		}
		requireNot(t, &shown, secretKey)
		requireNot(t, &shown, "the-session-token-of-this-test")
		assert.True(t, bytes.Contains(shown.text.Bytes(), []byte("ThrottlingException")), "errors and logs were captured at all")
		assert.Greater(t, shown.text.Len(), 100_000)
		t.Logf("searched %d bytes for %d keys and %d links", shown.text.Len(), keys, len(links))
	})
}
