package fakegateway_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// way is how a device comes by a certificate that AWS accepts.
type way string

const (
	byClaim way = "claim"
	byJITP  way = "JITP"
	byJITR  way = "JITR"
)

// unit is a device with its firmware, and what that keeps when the power fails.
type unit struct {
	w         *world
	rng       *rand.Rand
	name      string // of the thing, and the client id
	serial    string
	way       way
	five      bool
	format    codec
	forgetful bool // it keeps nothing of a claim until that is done, and so begins anew after each cut
	withKeys  bool // AWS is to make the key

	own         *device
	token       string
	provisioned bool
	doubts      int // connections with its own certificate that failed, in a row
	anew        int // certificates that it gave up

	home     *link // when it is connected with its own certificate
	accepted int   // how often it was
	steps    int
	dials    int
	cables   []*cable // to be closed at the end
}

var errCut = errors.New("the cable was pulled")

// step passes time before the next step, at which the connection may be cut.
func (u *unit) step(l *link, what string) error {
	time.Sleep(time.Duration(u.rng.Int64N(int64(2 * time.Second))))
	u.steps++
	u.w.logf("%s: %s", u.name, what)
	if cut := u.w.cutAtStep(u); cut != "" && l != nil {
		u.w.logf("%s: %s", u.name, cut)
		if cut == pulled {
			l.conn.NetConn().Close()
		} // else the gateway does not learn of it
		return errCut
	}
	return nil
}

// connect opens a connection.
func (u *unit) connect(d *device, clientID string) (*link, error) {
	if err := u.step(nil, "connects as "+clientID); err != nil {
		return nil, err
	}
	raw, err := u.w.dial()
	if err != nil {
		return nil, err
	}
	u.dials++
	thin := &cable{Conn: raw, left: u.w.cutAtByte(u)}
	u.cables = append(u.cables, thin)
	config := u.w.trusted.Clone()
	config.Certificates = []tls.Certificate{d.Certificate}
	return openLink(u.w.t.Context(), thin, config, clientID, u.five, 20*time.Second)
}

// try does what is left to be done until the device is connected with its own certificate and has said hello.
func (u *unit) try() error {
	if u.way == byClaim && !u.provisioned {
		if u.forgetful && u.own != nil {
			u.giveUp()
		}
		if err := u.claim(); err != nil {
			return err
		}
	}
	l, err := u.connect(u.own, u.name)
	if err != nil {
		if u.doubts++; u.doubts >= 4 && u.way == byClaim { // perhaps it is not provisioned after all
			u.doubts, u.provisioned = 0, false
		}
		return err
	}
	u.doubts = 0
	u.accepted++
	u.w.admitted(u)
	if err := u.step(l, "says hello"); err != nil {
		return err
	}
	if err := l.publish("dt/"+u.name+"/hello", []byte("hi")); err != nil {
		return err
	}
	u.home = l
	return nil
}

// giveUp forgets the certificate.
func (u *unit) giveUp() {
	u.w.logf("%s: gives up %.8s", u.name, u.own.id)
	u.own, u.token, u.anew = nil, "", u.anew+1
}

// claim gets a certificate and has it provisioned.
func (u *unit) claim() error {
	l, err := u.connect(u.w.claimCert, "claim-"+u.serial)
	if err != nil {
		return err
	}
	topics := []string{provisionTopic + u.format.name}
	if u.own == nil {
		topics = append(topics, u.createTopic()+u.format.name)
	}
	for _, topic := range topics {
		if err := u.step(l, "subscribes to "+topic); err != nil {
			return err
		}
		if err := l.subscribe(topic+"/accepted", topic+"/rejected"); err != nil {
			return err
		}
	}
	if u.own == nil {
		if err := u.step(l, "asks for a certificate"); err != nil {
			return err
		}
		if err := u.create(l); err != nil {
			return err
		}
	}
	if err := u.step(l, "asks to be provisioned"); err != nil {
		return err
	}
	used := u.w.used(u)
	made, err := l.request(provisionTopic, u.format, object{"certificateOwnershipToken": u.token, "parameters": object{"SerialNumber": u.serial}})
	switch {
	case err != nil:
		return err
	case made.ErrorCode == "InvalidCertificateOwnershipToken":
		l.disconnect()
		if home, err := u.connect(u.own, u.name); err == nil { // what was lost was the answer alone
			u.accepted++
			u.w.admitted(u)
			home.disconnect()
			break
		}
		u.giveUp()
		return fmt.Errorf("%s", made.ErrorMessage)
	case made.ErrorCode != "":
		l.disconnect()
		return fmt.Errorf("%s: %s", made.ErrorCode, made.ErrorMessage)
	case made.ThingName != u.name:
		u.w.violated("%s was provisioned as %s", u.name, made.ThingName)
	case used && u.w.tokensOnce:
		u.w.violated("%s was provisioned with a token that was used", u.name)
	}
	u.provisioned = true
	if err := u.step(l, "is provisioned"); err != nil {
		return err
	}
	if len(l.inbox) > 0 {
		u.w.violated("%s got an answer too many: %+v", u.name, l.inbox)
	}
	l.disconnect()
	return nil
}

func (u *unit) createTopic() string {
	if u.withKeys {
		return createTopic
	}
	return csrTopic
}

// create gets a certificate.
func (u *unit) create(l *link) error {
	if u.withKeys {
		issued, err := l.request(createTopic, u.format, object{})
		if err != nil || issued.ErrorCode != "" {
			return errors.Join(err, errors.New(issued.ErrorCode))
		}
		pair, err := tls.X509KeyPair([]byte(issued.CertificatePEM), []byte(issued.PrivateKey))
		u.own, u.token = &device{Certificate: pair, id: issued.CertificateID}, issued.CertificateOwnershipToken
		return err
	}
	key, request := csr()
	issued, err := l.request(csrTopic, u.format, object{"certificateSigningRequest": request})
	if err != nil || issued.ErrorCode != "" {
		return errors.Join(err, errors.New(issued.ErrorCode))
	}
	u.own, u.token = keyed(u.w.t, issued, key), issued.CertificateOwnershipToken
	return nil
}

// cable is a connection that breaks after so many bytes, both ways together; it never does if that is negative.
type cable struct {
	net.Conn
	mu   sync.Mutex
	left int
}

// pass takes n bytes off what is left, and returns how many of them get through.
func (c *cable) pass(n int) (through int, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < 0 {
		return n, false
	}
	through = min(n, c.left)
	c.left -= through
	return through, c.left == 0
}

// mend makes the connection one that does not break, unless it has.
func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left > 0 {
		c.left = -1
	}
}

// Write writes until the connection breaks.
func (c *cable) Write(b []byte) (int, error) {
	n, broken := c.pass(len(b))
	n, err := c.Conn.Write(b[:n])
	if broken {
		c.Conn.Close()
		return n, errCut
	}
	return n, err
}

// Read reads until the connection breaks. Bytes that have come before are lost then.
func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if through, broken := c.pass(n); broken {
		c.Conn.Close()
		return through, errCut
	}
	return n, err
}
