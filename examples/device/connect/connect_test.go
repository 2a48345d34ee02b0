package connect_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/examples/device/connect"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// account is one with a gateway, and a run of two devices on it.
type account struct {
	fake    *fakebackend.Backend
	gateway *fakegateway.Server
	folder  *keystore.Folder
	opts    connect.Options
}

// newAccount registers device-1 and device-2 with a policy.
func newAccount(t *testing.T, policy template.Literal) *account {
	t.Helper()
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	a := &account{fake: fake, gateway: fakegateway.NewUnstartedServer(fake, fakegateway.Options{})}
	t.Cleanup(a.gateway.Close)
	a.opts = connect.Options{Timeout: time.Minute, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.gateway.Dial(ctx) }}
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	a.folder, err = keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
	require.NoError(t, err)
	tmpl := template.Walkthrough()
	if policy != "" {
		tmpl.Resources["policy"] = template.Policy{PolicyDocument: policy}
	}
	run, err := provision.New(provision.Options{
		Backend: fake, Template: tmpl, RoleARN: role, Credential: &provision.MakeCSR{Store: a.folder}, Output: provision.Folder(a.folder),
	})
	require.NoError(t, err)
	_, err = run.Run(t.Context(), provision.Rows(
		map[string]string{"ThingName": "device-1", "SerialNumber": "1"}, map[string]string{"ThingName": "device-2", "SerialNumber": "2"},
	))
	require.NoError(t, err)
	return a
}

func (a *account) load(t *testing.T, device string) *connect.Device {
	t.Helper()
	d, err := connect.Load(a.folder.Path(device))
	require.NoError(t, err)
	return d
}

// requireRefusal checks at which step a device was stopped, and that text and advice have what they must.
func requireRefusal(t *testing.T, err error, step string, texts ...string) {
	t.Helper()
	var refusal *connect.Refusal
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, step, refusal.Step, "%v", err)
	for _, text := range texts {
		assert.Contains(t, refusal.Text+"\n"+refusal.Advice, text)
	}
	assert.NotContains(t, refusal.Text+refusal.Advice, "PRIVATE KEY")
}

var ownTopics = template.OwnTopics("aws", "us-east-1", "123456789012")

// only allows some actions on everything.
func only(actions string) template.Literal {
	return template.Literal(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":["*"]}]}`)
}

func TestADeviceSaysHelloAndHearsItself(t *testing.T) {
	a := newAccount(t, ownTopics)
	var steps []string
	a.opts.Progress = func(text string) { steps = append(steps, text) }
	require.NoError(t, a.load(t, "device-1").Hello(t.Context(), a.opts))
	assert.Contains(t, strings.Join(steps, "\n"), "connected as client device-1\nsubscribed to devices/device-1/hello\npublished \"hello from device-1\"\nreceived \"hello from device-1\"")
	a.opts.ALPN = true
	require.NoError(t, a.load(t, "device-2").Hello(t.Context(), a.opts))
}

func TestARefusalTellsHowFarTheDeviceCameAndWhatToAskTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		walkthrough := newAccount(t, "")
		err := walkthrough.load(t, "device-1").Hello(t.Context(), walkthrough.opts)
		requireRefusal(t, err, connect.StepConnect, "CONNACK 0x87 (not authorized)", "iot:Connect for client id device-1",
			"aws iot test-authorization --principal arn:aws:iot:us-east-1:123456789012:cert/", "actionType=CONNECT,resources=arn:aws:iot:us-east-1:123456789012:client/device-1 --region us-east-1",
			"curl \"$AWS_ENDPOINT_URL/_fake/events\"")
		var refusal *connect.Refusal
		require.ErrorAs(t, err, &refusal)
		assert.NotContains(t, refusal.Advice, "IP address")

		own := newAccount(t, ownTopics)
		d := own.load(t, "device-1")
		d.ClientID = "device-2"
		requireRefusal(t, d.Hello(t.Context(), own.opts), connect.StepConnect, "client id device-2")
		opts := own.opts
		opts.Topic = "devices/device-2/hello"
		requireRefusal(t, own.load(t, "device-1").Hello(t.Context(), opts), connect.StepSubscribe, "0x87", "topicfilter/devices/device-2/hello")
		_, err = iot.NewFromConfig(fakeaws.Config(own.fake)).UpdateCertificate(t.Context(),
			&iot.UpdateCertificateInput{CertificateId: &own.load(t, "device-1").CertificateID, NewStatus: types.CertificateStatusInactive})
		require.NoError(t, err)
		requireRefusal(t, own.load(t, "device-1").Hello(t.Context(), own.opts), connect.StepConnect, "ACTIVE", "aws iot describe-certificate")

		opts.Topic = "a/b/c/d/e/f/g/h/i"
		requireRefusal(t, own.load(t, "device-2").Hello(t.Context(), opts), connect.StepSubscribe, "7 slashes at most", "_fake/events")
		opts.Topic = "devices/+/hello"
		requireRefusal(t, own.load(t, "device-2").Hello(t.Context(), opts), connect.StepPublish, "has a wildcard")

		mute := newAccount(t, only(`"iot:Connect","iot:Subscribe","iot:Receive"`))
		requireRefusal(t, mute.load(t, "device-1").Hello(t.Context(), mute.opts), connect.StepPublish, "0x87", "actionType=PUBLISH")

		deaf := newAccount(t, only(`"iot:Connect","iot:Subscribe","iot:Publish"`))
		deaf.opts.Timeout = time.Second
		requireRefusal(t, deaf.load(t, "device-1").Hello(t.Context(), deaf.opts), connect.StepAnswer, "no message came back", "iot:Receive")
	})
}

func TestARefusalAtAnIPAddressTellsOfTheServersName(t *testing.T) {
	a := newAccount(t, "")
	a.opts.Endpoint = "127.0.0.1:8883"
	requireRefusal(t, a.load(t, "device-1").Hello(t.Context(), a.opts), connect.StepConnect, "an IP address does not give")
}

func TestADeviceWhoseClientIDAnotherTakesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, only(`"iot:Connect","iot:Subscribe","iot:Publish"`)) // no answer comes
		second := a.opts
		second.Timeout = 100 * time.Millisecond
		a.opts.Progress = func(text string) {
			if strings.HasPrefix(text, "published") {
				_ = a.load(t, "device-1").Hello(t.Context(), second)
			}
		}
		requireRefusal(t, a.load(t, "device-1").Hello(t.Context(), a.opts), connect.StepAnswer, "taken over")
	})
}

func TestAConnectionThatIsRefusedAtFirstIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "")
		d := a.load(t, "device-1")
		a.opts.Attempts = 3
		a.opts.Progress = func(text string) {
			if !strings.HasPrefix(text, "refused") {
				return
			}
			client := iot.NewFromConfig(fakeaws.Config(a.fake))
			document, name := string(ownTopics), "own"
			_, err := client.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
			require.NoError(t, err)
			_, err = client.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: &d.CertificateARN})
			require.NoError(t, err)
		}
		began := time.Now()
		require.NoError(t, d.Hello(t.Context(), a.opts))
		assert.Equal(t, time.Second, time.Since(began).Truncate(time.Second))
		a.gateway.Close()
	})
}

func TestFilesThatDoNotDoAreNamed(t *testing.T) {
	a := newAccount(t, ownTopics)
	for _, name := range []string{"thing.json", "certificate.pem", "private-key.pem", "root-ca.pem"} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(a.folder.Path("device-1"))))
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		_, err := connect.Load(dir)
		requireRefusal(t, err, connect.StepFiles, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		_, err = connect.Load(dir)
		requireRefusal(t, err, connect.StepFiles)
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(a.folder.Path("device-1"))))
	key, err := os.ReadFile(filepath.Join(a.folder.Path("device-2"), "private-key.pem"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "private-key.pem"), key, 0o600))
	_, err = connect.Load(dir)
	requireRefusal(t, err, connect.StepFiles, "do not fit together")
}

func disconnect(reason byte) *packets.ControlPacket {
	p := packets.NewControlPacket(packets.DISCONNECT)
	p.Content.(*packets.Disconnect).ReasonCode = reason
	return p
}

// server is a server that shows a certificate of an authority.
func server(ca *certtest.CA, name string, from, to time.Time) *tls.Config {
	key := certtest.Key()
	c := ca.Sign(key.Public(), func(c *x509.Certificate) { c.DNSNames, c.NotBefore, c.NotAfter = []string{name}, from, to })
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}}
}

func TestWhatStandsInTheWayIsExplained(t *testing.T) {
	a := newAccount(t, ownTopics)
	dir := a.folder.Path("device-1")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	ca := certtest.NewCA(certtest.Key())
	now := time.Now()
	good := func() *tls.Config { return server(ca, "localhost", now.Add(-time.Hour), now.Add(time.Hour)) }
	with := func(change func(*tls.Config)) func(net.Conn) {
		c := good()
		change(c)
		return func(conn net.Conn) { _ = tls.Server(conn, c).Handshake() }
	}
	strangers := x509.NewCertPool()
	strangers.AddCert(certtest.NewCA(certtest.Key()).Certificate)
	for name, c := range map[string]struct {
		serve func(net.Conn) // then the connection is closed
		step  string
		texts []string
	}{
		"another root": {func(conn net.Conn) {
			_ = tls.Server(conn, server(certtest.NewCA(certtest.Key()), "localhost", now, now.Add(time.Hour))).Handshake()
		}, connect.StepTrust, []string{"no root for the server's certificate, which is of Our CA"}},
		"a clock that is late": {func(conn net.Conn) {
			_ = tls.Server(conn, server(ca, "localhost", now.Add(time.Hour), now.Add(2*time.Hour))).Handshake()
		}, connect.StepTrust, []string{"this clock is at", "Set this machine's clock"}},
		"another name": {func(conn net.Conn) {
			_ = tls.Server(conn, server(ca, "elsewhere.example", now, now.Add(time.Hour))).Handshake()
		}, connect.StepTrust, []string{"elsewhere.example", "own name"}},
		"no TLS": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, connect.StepTrust, []string{"does not speak TLS"}},
		"an old TLS":       {with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), connect.StepTrust, []string{"TLS 1.2 and 1.3"}},
		"another protocol": {with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), connect.StepTrust, []string{"x-amzn-mqtt-ca", "443"}},
		"a stranger's certificate, TLS 1.2": {with(func(c *tls.Config) {
			c.MaxVersion, c.ClientAuth, c.ClientCAs = tls.VersionTLS12, tls.RequireAndVerifyClientCert, strangers
		}), connect.StepTrust, []string{"refuses the device's certificate", "describe-certificate"}},
		"a stranger's certificate, TLS 1.3": {with(func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, strangers
		}), connect.StepConnect, []string{"describe-certificate"}},
		"a hang-up in the handshake": {func(conn net.Conn) { _, _ = conn.Read(make([]byte, 100)) }, connect.StepTrust, []string{"ended the connection in the TLS handshake"}},
		"a hang-up at CONNECT": {func(conn net.Conn) {
			_, _ = tls.Server(conn, good()).Read(make([]byte, 100))
		}, connect.StepConnect, []string{"closed the connection without an answer", "test-authorization"}},
		"a DISCONNECT in place of a SUBACK": {func(conn net.Conn) {
			secure := tls.Server(conn, good())
			for _, answer := range []*packets.ControlPacket{packets.NewControlPacket(packets.CONNACK), disconnect(0x97)} {
				_, _ = packets.ReadPacket(secure)
				_, _ = answer.WriteTo(secure)
			}
		}, connect.StepSubscribe, []string{"DISCONNECT 0x97 (quota exceeded)"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					c.serve(conn)
					_ = conn.(*net.TCPConn).CloseWrite() // what was written arrives
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}
			}()
			d, err := connect.New(connect.Thing{ThingName: "device-1", ClientID: "device-1"}, read("certificate.pem"), read("private-key.pem"), []byte(certtest.PEM(ca.Certificate)))
			require.NoError(t, err)
			began, limit := time.Now(), time.Minute
			requireRefusal(t, d.Hello(t.Context(), connect.Options{
				Endpoint: "localhost:8883", Timeout: limit, ALPN: name == "another protocol",
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, l.Addr().String()) // and not to whom listens there at ::1
				},
			}), c.step, c.texts...)
			assert.Less(t, time.Since(began), limit, "what the server tells is not waited for")
		})
	}
}

func TestAHostThatIsNotReachedIsExplained(t *testing.T) {
	a := newAccount(t, ownTopics)
	d := a.load(t, "device-1")
	const closed = "127.0.0.1:1" // a port that was free a moment ago may be another program's by now
	requireRefusal(t, d.Hello(t.Context(), connect.Options{Endpoint: closed}), connect.StepReach, "nothing listens on "+closed, "MQTT_ENDPOINT")
	var asked string
	with := func(failure error) connect.Options {
		return connect.Options{Timeout: time.Millisecond, Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
			asked = addr
			if failure == nil {
				<-ctx.Done()
				failure = ctx.Err()
			}
			return nil, failure
		}}
	}
	requireRefusal(t, d.Hello(t.Context(), with(&net.DNSError{Err: "no such host", Name: d.Endpoint, IsNotFound: true})), connect.StepReach,
		"there is no host "+d.Endpoint, "on the fake, where the endpoint is a name only", "-connect")
	assert.Equal(t, d.Endpoint+":8883", asked)
	requireRefusal(t, d.Hello(t.Context(), with(&net.DNSError{Err: "server misbehaving", Name: d.Endpoint})), connect.StepReach, "could not be looked up")
	opts := with(nil)
	opts.ALPN = true
	requireRefusal(t, d.Hello(t.Context(), opts), connect.StepReach, "no answer from", "-alpn")
	assert.Equal(t, d.Endpoint+":443", asked)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, d.Hello(ctx, with(nil)), context.Canceled, "the caller's end is no refusal")
}
