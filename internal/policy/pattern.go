package policy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables, compiled.
type pattern struct {
	pieces []piece
	fold   bool // case does not count
	arn    bool // six parts, each matched for itself
}

type piece struct {
	kind       pieceKind
	text       string // of literal; the key of variable
	fallback   string // what a variable stands for when the request does not have the key
	hasDefault bool   // fallback is set
}

type pieceKind byte

const (
	literal   pieceKind = iota
	variable            // ${key} or ${key, 'default'}
	anyOne              // ?: one character
	anyRun              // *: any characters, or none
	anyOneARN           // ? within one of the first five parts of an ARN: no colon
	anyRunARN           // * likewise
)

// mode is what has a meaning in a pattern.
type mode byte

const (
	wildcards     mode = 1 << iota // * and ?
	withVariables                  // ${…}
	ignoreCase
	partsOfARN

	fold = wildcards | ignoreCase // actions
)

func compileAll(texts []string, m mode) []pattern {
	if len(texts) == 0 {
		return nil
	}
	out := make([]pattern, len(texts))
	for i, text := range texts {
		out[i] = compile(text, m)
	}
	return out
}

func compile(text string, m mode) pattern {
	p := pattern{fold: m&ignoreCase != 0, arn: m&partsOfARN != 0}
	colons, start := 0, 0
	flush := func(end int) {
		if start < end {
			p.literal(text[start:end])
		}
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case m&wildcards != 0 && (c == '*' || c == '?'):
			flush(i)
			kind := anyRun
			if c == '?' {
				kind = anyOne
			}
			if p.arn && colons < 5 {
				kind += anyOneARN - anyOne
			}
			if n := len(p.pieces); c == '?' || n == 0 || p.pieces[n-1].kind != kind { // ** is *
				p.pieces = append(p.pieces, piece{kind: kind})
			}
			i++
			start = i
		case m&withVariables != 0 && strings.HasPrefix(text[i:], "${"):
			end := strings.IndexByte(text[i:], '}')
			if end < 0 { // not closed, nor is any that follows: plain text
				m &^= withVariables
				continue
			}
			flush(i)
			p.variable(text[i+2 : i+end])
			i += end + 1
			start = i
		default:
			if c == ':' {
				colons++
			}
			i++
		}
	}
	flush(len(text))
	return p
}

// literal adds plain text to the last piece, or as a piece of its own.
func (p *pattern) literal(text string) {
	if n := len(p.pieces); n > 0 && p.pieces[n-1].kind == literal {
		p.pieces[n-1].text += text
		return
	}
	p.pieces = append(p.pieces, piece{text: text})
}

// variable adds what stands between ${ and }.
func (p *pattern) variable(name string) {
	if name == "*" || name == "?" || name == "$" { // how a document writes these characters themselves
		p.literal(name)
		return
	}
	key, fallback, ok := strings.Cut(name, ",")
	p.pieces = append(p.pieces, piece{
		kind: variable, text: strings.TrimSpace(key), fallback: strings.Trim(strings.TrimSpace(fallback), "'"), hasDefault: ok,
	})
}

// constant reports whether the pattern is one text without wildcards and variables.
func (p *pattern) constant() bool {
	return len(p.pieces) == 0 || len(p.pieces) == 1 && p.pieces[0].kind == literal
}

// subject is what a pattern is compared with: a text in two parts, so that nobody has to join an ARN and a topic for each
// message of a device. The first part ends with a whole character.
type subject struct{ head, tail string }

func (s *subject) length() int { return len(s.head) + len(s.tail) }

// from returns what follows at i, up to the end of the part that i is in.
func (s *subject) from(i int) string {
	if i < len(s.head) {
		return s.head[i:]
	}
	return s.tail[i-len(s.head):]
}

// character returns the length of the character at i, 0 at the end, and whether it is a colon.
func (s *subject) character(i int) (size int, colon bool) {
	text := s.from(i)
	_, size = utf8.DecodeRuneInString(text)
	return size, size > 0 && text[0] == ':'
}

func (s *subject) hasPrefix(i int, text string) bool {
	rest := s.from(i)
	if len(rest) >= len(text) || i >= len(s.head) {
		return strings.HasPrefix(rest, text)
	}
	return strings.HasPrefix(text, rest) && strings.HasPrefix(s.tail, text[len(rest):])
}

// match compares the pattern with a text, see matchSubject.
func (p *pattern) match(s string, r *Request) truth { return p.matchSubject(subject{head: s}, r) }

// matchSubject compares the pattern with a text. * stands for any characters, also none and also colons and slashes,
// and ? for one character. A variable stands for its value to the letter. If the request does not have the key, nothing
// matches; in a partial request the variable may have any value, so what could match then is undecided.
//
// The time is at most in proportion to the product of the lengths.
func (p *pattern) matchSubject(s subject, r *Request) truth {
	if p.fold && p.constant() && len(p.pieces) == 1 && s.length() != len(p.pieces[0].text) && isASCII(s.head) && isASCII(s.tail) && isASCII(p.pieces[0].text) {
		return no // the common case of a list of actions
	}
	if p.arn && strings.Count(s.head, ":")+strings.Count(s.tail, ":") < 5 {
		return no
	}
	result := yes
	i, j := 0, 0
	star, mark := -1, 0 // the last run of any characters, and up to where it goes in s
	for {
		matched := false
		if i == len(p.pieces) {
			if j == s.length() {
				return result
			}
		} else {
			at, size := p.pieces[i].kind, 0
			text := p.pieces[i].text
			if at == variable {
				value, ok := r.value(text)
				switch {
				case ok:
					at, text = literal, value
				case r.unknown(text):
					at, result = anyRun, maybe
				case p.pieces[i].hasDefault:
					at, text = literal, p.pieces[i].fallback
				default:
					return no
				}
			}
			switch at {
			case anyRun, anyRunARN:
				i++
				star, mark = i, j
				if i == len(p.pieces) && at == anyRun {
					return result
				}
				continue
			case literal:
				size, matched = p.prefix(&s, j, text)
			case anyOne, anyOneARN:
				var colon bool
				size, colon = s.character(j)
				matched = size > 0 && (at == anyOne || !colon)
			}
			if matched {
				i, j = i+1, j+size
				continue
			}
		}
		// One character more for the last run, and again from there.
		if star < 0 {
			return no
		}
		size, colon := s.character(mark)
		if size == 0 || colon && p.pieces[star-1].kind == anyRunARN {
			return no
		}
		mark += size
		i, j = star, mark
	}
}

// prefix reports whether s has text at i, and how much of s that is.
func (p *pattern) prefix(s *subject, i int, text string) (int, bool) {
	if !p.fold {
		return len(text), s.hasPrefix(i, text)
	}
	n := 0
	for text != "" {
		a, _ := s.character(i + n)
		_, b := utf8.DecodeRuneInString(text)
		if a == 0 || !strings.EqualFold(s.from(i + n)[:a], text[:b]) {
			return 0, false
		}
		n, text = n+a, text[b:]
	}
	return n, true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// keys calls a function with the key of each variable.
func (p *pattern) keys(use func(string)) {
	for i := range p.pieces {
		if p.pieces[i].kind == variable {
			use(p.pieces[i].text)
		}
	}
}

// resolved reports whether the request has, or may have, every key that the pattern's variables need.
func (p *pattern) resolved(r *Request) bool {
	for i := range p.pieces {
		if piece := &p.pieces[i]; piece.kind == variable && !piece.hasDefault {
			if _, ok := r.value(piece.text); !ok && !r.unknown(piece.text) {
				return false
			}
		}
	}
	return true
}
