package fakegateway

import (
	"context"
	"fmt"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// question is something that a device can ask AWS IoT for by publishing to a reserved topic.
type question struct {
	// topic is the topic, in which + stands for any one level, such as
	// $aws/provisioning-templates/+/provision/json.
	topic string
	// answer answers it. It runs on the goroutine that reads from the client, after the message is acknowledged, so a
	// client's next packet waits for it. The context ends when the connection is ended. Whatever is returned is sent to the
	// client that asked, on no topic that another client can see, if it has subscribed to that topic and may receive from
	// it. With cut the connection ends without an answer.
	answer func(ctx context.Context, from wire.Device, levels []string, payload []byte) (reply reply, cut bool)
}

// reply is an answer to a device. Without a topic there is none.
type reply struct {
	topic   string
	payload []byte
}

// asked is a question that a client has put, with the levels that stand for a + in its topic.
type asked struct {
	*question
	levels []string
}

// asked finds the question that a topic is for.
func (s *Server) asked(topic string) (*asked, bool) {
	levels := strings.Split(topic, "/")
	for i := range s.questions {
		q := &s.questions[i]
		pattern := strings.Split(q.topic, "/")
		if len(pattern) != len(levels) {
			continue
		}
		var free []string
		same := true
		for j, p := range pattern {
			if p == "+" {
				free = append(free, levels[j])
			} else if p != levels[j] {
				same = false
				break
			}
		}
		if same {
			return &asked{q, free}, true
		}
	}
	return nil, false
}

// serve answers what the client has asked.
func (c *session) serve(payload []byte) {
	q := c.asking
	c.asking = nil
	answer, cut := q.answer(c.ctx, c.device, q.levels, payload)
	if cut {
		c.end(packets.ErrUnspecifiedError, serverError, fmt.Sprintf("the connection was cut by a fault at a request on %s", q.topic))
		return
	}
	if answer.topic != "" {
		c.server.publish(private(c.id, answer.topic), answer.payload)
	}
}
