package keystore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// The format is described at [Archive]. All numbers are little-endian.
const (
	archiveMagic   = "\x89iotfleet keys\r\n" // as in PNG: a transfer in text mode shows
	archiveVersion = 1
	archiveHead    = 32 // bytes at the start of the file

	frameMagic = "\xf7key"
	frameHead  = 24 // bytes of a frame before its name
	maxName    = 255
	maxFrame   = frameHead + maxName + 2*maxFile

	frameKeyed   = 1 // a record: name, key, request
	frameKeyless = 2 // a record whose key is kept elsewhere: name, request
	frameMark    = 3 // all before an offset is durable; perhaps a stretch that a crash left unfinished
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// archiveHeader is the start of every archive: magic, version, 8 bytes zero, checksum.
func archiveHeader() []byte {
	b := make([]byte, archiveHead)
	copy(b, archiveMagic)
	binary.LittleEndian.PutUint32(b[16:], archiveVersion)
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

// frame is a whole frame. Its slices are part of a buffer that the next read may overwrite.
type frame struct {
	head
	key, request []byte
}

// head is what a frame's checksum of the head vouches for.
type head struct {
	offset  int64
	kind    byte
	name    []byte
	keyLen  int
	reqLen  int
	bodySum uint32
}

func (h head) bodyAt() int { return frameHead + len(h.name) }

func (h head) size() int64 { return int64(h.bodyAt() + h.keyLen + h.reqLen) }

// appendFrame appends a frame that will stand at offset of the file.
func appendFrame(b []byte, offset int64, kind byte, name string, key, request []byte) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = append(b, kind, byte(len(name)), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(request)))
	b = binary.LittleEndian.AppendUint32(b, bodySum(key, request))
	b = append(b, 0, 0, 0, 0)
	b = append(b, name...)
	binary.LittleEndian.PutUint32(b[start+20:], headSum(b[start:], offset))
	b = append(b, key...)
	return append(b, request...)
}

func bodySum(key, request []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, request)
}

// headSum covers the offset as well, so that a frame is a frame only where it was written: not in a body, not moved.
func headSum(head []byte, offset int64) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(offset))
	sum := crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, head[:20])
	return crc32.Update(sum, castagnoli, head[frameHead:])
}

// parseHead reads the head of the frame at offset from b, which starts there and goes on for frameHead + maxName bytes
// or to the end of the file.
func parseHead(b []byte, offset int64) (head, bool) {
	if len(b) < frameHead || string(b[:len(frameMagic)]) != frameMagic {
		return head{}, false
	}
	nameLen := int(b[5])
	if len(b) < frameHead+nameLen {
		return head{}, false
	}
	keyLen, reqLen := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if keyLen > maxFile || reqLen > maxFile {
		return head{}, false
	}
	h := head{
		offset: offset, kind: b[4], name: b[frameHead : frameHead+nameLen],
		keyLen: int(keyLen), reqLen: int(reqLen), bodySum: binary.LittleEndian.Uint32(b[16:]),
	}
	var fits bool
	switch h.kind {
	case frameKeyed:
		fits = nameLen > 0 && keyLen > 0 && reqLen > 0
	case frameKeyless:
		fits = nameLen > 0 && keyLen == 0 && reqLen > 0
	case frameMark:
		fits = nameLen == 0 && keyLen == 0 && (reqLen == 8 || reqLen == 24)
	}
	if !fits || binary.LittleEndian.Uint32(b[20:]) != headSum(b[:frameHead+nameLen], offset) {
		return head{}, false
	}
	return h, true
}

// parseBody takes the rest of a frame from b, which holds the whole frame.
func parseBody(h head, b []byte) (frame, bool) {
	body := b[h.bodyAt():h.size()]
	f := frame{head: h, key: body[:h.keyLen], request: body[h.keyLen:]}
	return f, bodySum(f.key, f.request) == h.bodySum
}

// mark is the content of a frameMark.
type mark struct {
	durable            int64 // everything before this offset was on the disk
	voidFrom, voidSize int64 // a stretch that a crash left unfinished before it was durable; 0, 0 for none
}

func (m mark) append(b []byte, offset int64) []byte {
	body := binary.LittleEndian.AppendUint64(nil, uint64(m.durable))
	if m.voidSize > 0 {
		body = binary.LittleEndian.AppendUint64(body, uint64(m.voidFrom))
		body = binary.LittleEndian.AppendUint64(body, uint64(m.voidSize))
	}
	return appendFrame(b, offset, frameMark, "", nil, body)
}

// parseMark returns nothing for what no writer can have meant: a mark speaks of what is before it.
func parseMark(f frame) (m mark, ok bool) {
	m.durable = int64(binary.LittleEndian.Uint64(f.request))
	if len(f.request) == 24 {
		m.voidFrom = int64(binary.LittleEndian.Uint64(f.request[8:]))
		m.voidSize = int64(binary.LittleEndian.Uint64(f.request[16:]))
	}
	ok = 0 <= m.durable && m.durable <= f.offset &&
		0 <= m.voidFrom && m.voidFrom <= f.offset && 0 <= m.voidSize && m.voidSize <= f.offset-m.voidFrom
	return m, ok
}

// stretch is a part of the file that is no whole frame.
type stretch struct {
	offset, size int64
	device       string // whose record it was, if the head is whole
	reason       string
}

// scanner goes through the frames of a file with one buffer.
type scanner struct {
	r   io.ReaderAt
	end int64
	at  int64 // the offset of buf
	buf []byte
}

const scanBuffer = 1 << 20 // more than maxFrame

func newScanner(r io.ReaderAt, end int64) *scanner {
	return &scanner{r: r, end: end, buf: make([]byte, 0, min(scanBuffer, max(end, 0)))}
}

// view returns n bytes at offset, until the next call. They must be within the file, and at most maxFrame.
func (s *scanner) view(offset int64, n int) ([]byte, error) {
	if offset < s.at || offset+int64(n) > s.at+int64(len(s.buf)) {
		s.buf = s.buf[:min(int64(cap(s.buf)), s.end-offset)]
		s.at = offset
		if err := readFull(s.r, s.buf, offset); err != nil {
			s.buf = s.buf[:0]
			return nil, err
		}
	}
	return s.buf[offset-s.at:][:n], nil
}

func readFull(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at byte %d: %w", len(b), offset, err)
}

func (s *scanner) head(offset int64) (head, bool, error) {
	b, err := s.view(offset, int(min(frameHead+maxName, s.end-offset)))
	if err != nil {
		return head{}, false, err
	}
	h, ok := parseHead(b, offset)
	return h, ok, nil
}

// scan calls good for each whole frame and bad for each stretch between them, in the order of the file, until good
// returns false. A frame with a damaged body ends where its head says. With a damaged head, the next whole head is
// looked for byte by byte.
func (s *scanner) scan(from int64, good func(frame) (bool, error), bad func(stretch)) error {
	for p := from; p < s.end; {
		h, ok, err := s.head(p)
		switch {
		case err != nil:
			return err
		case !ok:
			next, err := s.find(p + 1)
			if err != nil {
				return err
			}
			bad(stretch{offset: p, size: next - p, reason: "no record can be recognised there"})
			p = next
			continue
		case h.size() > s.end-p:
			bad(stretch{offset: p, size: s.end - p, device: string(h.name), reason: "the file ends within the record"})
			return nil
		}
		b, err := s.view(p, int(h.size()))
		if err != nil {
			return err
		}
		h.name = b[frameHead:h.bodyAt()] // the view may have moved
		f, whole := parseBody(h, b)
		if !whole {
			bad(stretch{offset: p, size: h.size(), device: string(h.name), reason: "its checksum does not fit"})
		} else if more, err := good(f); err != nil || !more {
			return err
		}
		p += h.size()
	}
	return nil
}

// find returns the offset of the first whole head from p on, or the end of the file.
func (s *scanner) find(p int64) (int64, error) {
	for s.end-p >= frameHead {
		b, err := s.view(p, int(min(maxFile, s.end-p)))
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			p += int64(len(b) - len(frameMagic) + 1)
			continue
		}
		p += int64(i)
		if _, ok, err := s.head(p); ok || err != nil {
			return p, err
		}
		p++
	}
	return s.end, nil
}

// moved returns where, from p on, a record stands that is whole but for its place or its name: no crash leaves that behind
// the last frame.
func (s *scanner) moved(p int64) (at int64, found bool, err error) {
	for budget := 16 * (s.end - p); s.end-p >= frameHead; p++ {
		b, err := s.view(p, int(min(maxFrame, s.end-p)))
		if err != nil {
			return 0, false, err
		}
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			p += int64(len(b) - len(frameMagic))
			continue
		}
		p += int64(i)
		if b, err = s.view(p, int(min(maxFrame, s.end-p))); err != nil || len(b) < frameHead {
			return 0, false, err
		}
		keyLen, reqLen := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if keyLen > maxFile || reqLen == 0 || reqLen > maxFile || frameHead+int(b[5]) > len(b) {
			continue
		}
		h := head{name: b[frameHead:][:b[5]], keyLen: int(keyLen), reqLen: int(reqLen), bodySum: binary.LittleEndian.Uint32(b[16:])}
		if h.size() > int64(len(b)) {
			continue
		}
		// Made to waste time, the file holds what no crash left.
		budget -= h.size()
		if _, whole := parseBody(h, b); whole || budget < 0 {
			return p, true, nil
		}
	}
	return 0, false, nil
}

// headerSum is the checksum a header should have.
func headerSum(header []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(header[:28], castagnoli))
}
