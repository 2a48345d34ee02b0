package fakegateway

import (
	"encoding/json"
	"strings"
	"time"
)

// presence is the payload of a message about a connection.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
type presence struct {
	ClientID                  string   `json:"clientId"`
	ThingName                 string   `json:"thingName,omitempty"`
	Timestamp                 int64    `json:"timestamp"`
	EventType                 string   `json:"eventType"`
	ConnectFailureReason      string   `json:"connectFailureReason,omitempty"`
	SessionIdentifier         string   `json:"sessionIdentifier"`
	PrincipalIdentifier       string   `json:"principalIdentifier"`
	IPAddress                 string   `json:"ipAddress,omitempty"`
	Topics                    []string `json:"topics,omitempty"`
	ClientInitiatedDisconnect *bool    `json:"clientInitiatedDisconnect,omitempty"`
	DisconnectReason          string   `json:"disconnectReason,omitempty"`
	VersionNumber             *int64   `json:"versionNumber,omitempty"`
}

// versionLife is for how long a client can be away until its version numbers begin again.
const versionLife = time.Hour

// version is the version number of a client's presence events.
type version struct {
	number int64
	last   time.Time // of its connection's beginning or end
}

// about begins a message about the session.
func (c *session) about(eventType string) presence {
	p := presence{
		ClientID: c.id, Timestamp: c.server.fake.Now().UnixMilli(), EventType: eventType, SessionIdentifier: c.sessionID,
	}
	if c.device != nil {
		p.PrincipalIdentifier = c.device.CertificateID()
		// Only an exclusive attachment lets a thing connect under another name than its own.
		if name := c.device.ThingName(); name != c.id {
			p.ThingName = name
		}
	}
	return p
}

func (c *session) address() string {
	if !c.hello.Source.IsValid() {
		return ""
	}
	return c.hello.Source.Unmap().String()
}

// tell publishes a message about the session. A client id with a wildcard has none.
func (c *session) tell(topic string, p presence) {
	if strings.ContainsAny(c.id, "+#") {
		return
	}
	payload, err := json.Marshal(p)
	if err != nil {
		return // it has strings and numbers only
	}
	c.server.publish(eventTopics+topic+"/"+c.id, payload)
}

func (c *session) publishConnected() {
	c.sessionID = newUUID()
	c.version = c.server.nextVersion(c.id)
	p := c.about("connected")
	p.IPAddress, p.VersionNumber = c.address(), &c.version
	c.tell("presence/connected", p)
}

func (c *session) publishDisconnected(why *ending) {
	c.server.touchVersion(c.id, c.version)
	p := c.about("disconnected")
	p.ClientInitiatedDisconnect, p.DisconnectReason, p.VersionNumber = new(why.reason == byClient), why.reason, &c.version
	c.tell("presence/disconnected", p)
}

func (c *session) publishConnectFailed() {
	c.sessionID = newUUID()
	p := c.about("connect_failed")
	p.ConnectFailureReason, p.IPAddress = "AUTHORIZATION_FAILED", c.address()
	if p.PrincipalIdentifier == "" {
		p.PrincipalIdentifier = certificateID(c.hello.Chain)
	}
	c.tell("presence/connect_failed", p)
}

func (c *session) publishSubscriptions(eventType string, topics []string) {
	p := c.about(eventType)
	p.Topics = topics
	c.tell("subscriptions/"+eventType, p)
}

// nextVersion returns the version number for a connection that begins.
func (s *Server) nextVersion(clientID string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	v, ok := s.versions[clientID]
	if ok && now.Sub(v.last) < versionLife {
		v.number++
	} else {
		v.number = 0
	}
	if len(s.versions) >= s.pruneAt {
		for id, old := range s.versions {
			if _, connected := s.sessions[id]; !connected && now.Sub(old.last) >= versionLife {
				delete(s.versions, id)
			}
		}
		s.pruneAt = max(versionsKept, 2*len(s.versions))
	}
	v.last = now
	s.versions[clientID] = v
	return v.number
}

// versionsKept is how many clients' version numbers are kept before those that are out of date are dropped.
const versionsKept = 10000

// touchVersion notes that a connection has ended now.
func (s *Server) touchVersion(clientID string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.versions[clientID]; v.number == number {
		v.last = time.Now()
		s.versions[clientID] = v
	}
}
