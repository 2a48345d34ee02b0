package datafile

import "math/bits"

// Eight bytes at a time: in a string of JSON the bytes that need attention are rare, and testing them one by one is
// most of the cost of writing or reading a line.
const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// word returns the eight bytes of s from i on, the first the lowest. The compiler makes one load of it.
func word[T string | []byte](s T, i int) uint64 {
	w := s[i : i+8]
	return uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
		uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
}

// notPlain has a high bit set if any byte of x is a quote, a backslash, a control character or outside ASCII. It may
// also be set for a space or an exclamation mark, which saves a comparison and hardly occurs in what data files hold.
func notPlain(x uint64) uint64 {
	return (x - eachByte*('"'+1)) | ((x ^ eachByte*'\\') - eachByte) | x
}

// special has the high bit set of the lowest byte of x that is a quote, a backslash or a control character, and none
// below it; it is 0 if there is no such byte.
func special(x uint64) uint64 {
	quotes, slashes := x^eachByte*'"', x^eachByte*'\\'
	// y-1 borrows into the high bit only where a byte of y is 0 (or above such a byte, which does not matter: the lowest
	// one is looked at); x-0x20 only where it is below 0x20.
	return (((quotes - eachByte) &^ quotes) | ((slashes - eachByte) &^ slashes) | ((x - eachByte*0x20) &^ x)) & highBits
}

// scanPlain returns the index of the first byte of s, from i on, that JSON does not allow as it is within a string: a
// quote, a backslash or a control character; len(s) when there is none. The second result has highBits set if there
// may be bytes outside ASCII up to there, so that UTF-8 needs to be checked.
func scanPlain[T string | []byte](s T, i int) (int, uint64) {
	var seen uint64
	for ; i+16 <= len(s); i += 16 {
		w := s[i : i+16]
		x, y := word(w, 0), word(w, 8)
		if (notPlain(x)|notPlain(y))&highBits == 0 {
			continue
		}
		if byte(x) < 0x20 {
			// The line break of a PEM, whose lines have 64 characters. Not computing where it is lets the processor go on.
			return i, seen & highBits
		}
		seen |= x | y
		if hit := special(x); hit != 0 {
			return i + bits.TrailingZeros64(hit)/8, seen & highBits
		}
		if hit := special(y); hit != 0 {
			return i + 8 + bits.TrailingZeros64(hit)/8, seen & highBits
		}
	}
	if i+8 <= len(s) && notPlain(word(s, i))&highBits == 0 {
		i += 8
	}
	for ; i < len(s); i++ {
		c := s[i]
		if c == '"' || c == '\\' || c < 0x20 {
			break
		}
		seen |= uint64(c)
	}
	return i, seen & highBits
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends s as the inside of a JSON string, and returns highBits set if s may hold bytes outside ASCII.
// It escapes what JSON demands and nothing else: in particular not <, > and &, which json.Encoder does by default.
func appendEscaped(dst []byte, s string) ([]byte, uint64) {
	var seen uint64
	for i := 0; i < len(s); {
		j, high := scanPlain(s, i)
		seen |= high
		dst = append(dst, s[i:j]...)
		if j == len(s) {
			break
		}
		switch c := s[j]; c {
		case '\n':
			dst = append(dst, '\\', 'n')
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i = j + 1
	}
	return dst, seen
}

// escapedLen returns the length that appendEscaped would add.
func escapedLen(s string) int {
	n := len(s)
	for i := 0; ; i++ {
		if i, _ = scanPlain(s, i); i == len(s) {
			return n
		}
		switch s[i] {
		case '"', '\\', '\n', '\r', '\t', '\b', '\f':
			n++
		default:
			n += len(`\u00XX`) - 1
		}
	}
}
