package jsonline

import (
	"bytes"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text decodes a string as encoding/json does: half a surrogate pair and each byte that is not UTF-8 become U+FFFD. Of
// any other value it returns the text as it is written. The result shares no memory with the Reader's text.
func (r *Reader) Text(v Value) string {
	if !v.Escaped {
		return v.valid(string(r.Raw(v)))
	}
	var b strings.Builder
	b.Grow(v.End - v.Start) // an escape is never shorter than what it stands for
	r.WriteText(&b, v)
	return v.valid(b.String())
}

// WriteText writes what [Reader.Text] returns, but bytes that are not UTF-8 as they are. It returns the place in the
// text of the first escape that is half of a surrogate pair, -1 if there is none.
func (r *Reader) WriteText(b *strings.Builder, v Value) (half int) {
	half = -1
	raw := r.Raw(v)
	if !v.Escaped {
		b.Write(raw)
		return half
	}
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			b.Write(raw)
			return half
		}
		b.Write(raw[:i])
		c, n := Unescape(raw[i:])
		if half < 0 && utf16.IsSurrogate(c) {
			half = v.End - 1 - len(raw) + i
		}
		if c < utf8.RuneSelf {
			b.WriteByte(byte(c))
		} else {
			b.WriteRune(c) // U+FFFD for half a pair
		}
		raw = raw[i+n:]
	}
}

// valid returns the text s of a string with U+FFFD for what is not UTF-8.
func (v Value) valid(s string) string {
	if !v.NonASCII || utf8.ValidString(s) {
		return s
	}
	return string([]rune(s)) // a U+FFFD for each byte, where strings.ToValidUTF8 has one for several
}

// InvalidUTF8 returns the place of the first byte that is not part of UTF-8, -1 if there is none.
func InvalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	i := 0
	for {
		c, n := utf8.DecodeRune(text[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
}

// Unescape reads the escape that text begins with: what it stands for and its length, 0 when it is no escape of JSON.
// The two halves of a surrogate pair are one escape. Half a pair is returned as it is: not a valid rune.
func Unescape(text []byte) (c rune, size int) {
	if len(text) < 2 {
		return 0, 0
	}
	switch c := text[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	}
	c = hex4(text)
	if c < 0 {
		return 0, 0
	}
	const length = len(`\uXXXX`)
	if utf16.IsSurrogate(c) {
		if pair := utf16.DecodeRune(c, hex4(text[length:])); pair != utf8.RuneError {
			return pair, 2 * length
		}
	}
	return c, length
}

// hex4 returns the number in an escape such as \u00e9, -1 when text does not begin with one.
func hex4(text []byte) rune {
	if len(text) < len(`\uXXXX`) || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	var n rune
	for _, c := range text[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		n = n<<4 | rune(c)
	}
	return n
}

// AppendString appends s as a JSON string, quotes included. It escapes what JSON demands and nothing else: in
// particular not <, > and &, which encoding/json does by default. Bytes that are not UTF-8 are written as they are;
// invalid is the place in s of the first one, -1 if there is none.
func AppendString(dst []byte, s string) (text []byte, invalid int) {
	const hexDigits = "0123456789abcdef"
	invalid = -1
	dst = append(dst, '"')
	for i := 0; ; {
		n := plain(s[i:])
		dst = append(dst, s[i:i+n]...)
		if i += n; i == len(s) {
			return append(dst, '"'), invalid
		}
		n = 1
		switch c := s[i]; c {
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
			if c < 0x20 {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
				break
			}
			if _, n = utf8.DecodeRuneInString(s[i:]); n == 1 && invalid < 0 {
				invalid = i
			}
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
}

// plain returns how many bytes at the start of s are ASCII and stand in a JSON string as they are: no quote, backslash
// or control character. It looks at sixteen bytes at a time, as nearly all of a line is the inside of long strings; one
// by one takes more than a third of the time of encoding/json.
func plain[T string | []byte](s T) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+16 <= len(s); i += 16 {
		x, y := word(s[i:i+8]), word(s[i+8:i+16])
		// A byte's top bit is set where it is at most a quote, a backslash or above 0x7f: a space and an exclamation mark
		// are false hits, and cost a second look. Bits above the first hit may be false as well.
		if ((x-ones*('"'+1))|((x^ones*'\\')-ones)|x|(y-ones*('"'+1))|((y^ones*'\\')-ones)|y)&highs == 0 {
			continue
		}
		if byte(x) < 0x20 {
			return i // the line break of a PEM, after 64 characters: nothing is to be computed
		}
		break
	}
	for ; i+8 <= len(s); i += 8 {
		w := word(s[i : i+8])
		// A byte's top bit is set where w is below 0x20, above 0x7f, or one of the two; only the first hit counts.
		hit := (w - ones*0x20) | ((w ^ ones*'"') - ones) | ((w ^ ones*'\\') - ones)
		if hit &= highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for i < len(s) && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\' && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// word returns the first eight bytes of s, the first the lowest. The compiler makes one load of it.
func word[T string | []byte](s T) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
