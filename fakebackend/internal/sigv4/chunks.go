package sigv4

import (
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"time"
)

// Chunks checks the signatures of a streamed upload. Each chunk's signature covers the one before it, beginning with
// the request's own.
type Chunks struct {
	key      []byte
	at       time.Time
	scope    string
	previous string
}

// Chunks starts checking the chunks of a request whose own signature is verified already.
func (s *Signature) Chunks(r *http.Request, secretKey string) (*Chunks, error) {
	at, err := s.time(r)
	if err != nil {
		return nil, err
	}
	return &Chunks{key: s.key(secretKey), at: at, scope: s.Scope(), previous: s.Hex}, nil
}

// Chunk checks the next chunk, given the SHA-256 of its data. The last chunk is empty.
func (c *Chunks) Chunk(digest [32]byte, signature string) error {
	return c.check("AWS4-HMAC-SHA256-PAYLOAD", EmptySHA256+"\n"+hex.EncodeToString(digest[:]), signature)
}

// Trailer checks the trailing headers, given the SHA-256 of their lines (name:value and a newline each).
func (c *Chunks) Trailer(digest [32]byte, signature string) error {
	return c.check("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(digest[:]), signature)
}

func (c *Chunks) check(algorithm, rest, signature string) error {
	want := c.next(algorithm, rest)
	if subtle.ConstantTimeCompare([]byte(want), []byte(signature)) != 1 {
		return ErrMismatch
	}
	return nil
}

func (c *Chunks) next(algorithm, rest string) string {
	text := algorithm + "\n" + c.at.Format(timeFormat) + "\n" + c.scope + "\n" + c.previous + "\n" + rest
	c.previous = hex.EncodeToString(mac(c.key, text))
	return c.previous
}
