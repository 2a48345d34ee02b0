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
			if end < 0 { // not closed: plain text
				i = len(text)
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

// match compares the pattern with a text. * stands for any characters, also none and also colons and slashes, and ? for
// one character. A variable stands for its value to the letter. If the request does not have the key, nothing matches;
// in a partial request the variable may have any value, so what could match then is undecided.
//
// The time is at most in proportion to the product of the lengths.
func (p *pattern) match(s string, r *Request) truth {
	if p.fold && p.constant() && len(p.pieces) == 1 && len(s) != len(p.pieces[0].text) && isASCII(s) && isASCII(p.pieces[0].text) {
		return no // the common case of a list of actions
	}
	if p.arn && strings.Count(s, ":") < 5 {
		return no
	}
	result := yes
	i, j := 0, 0
	star, mark := -1, 0 // the last run of any characters, and up to where it goes in s
	for {
		matched := false
		if i == len(p.pieces) {
			if j == len(s) {
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
				case p.pieces[i].hasDefault && !r.Partial:
					at, text = literal, p.pieces[i].fallback
				case r.Partial:
					at, result = anyRun, maybe
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
				size, matched = p.prefix(s[j:], text)
			case anyOne, anyOneARN:
				_, size = utf8.DecodeRuneInString(s[j:])
				matched = size > 0 && (at == anyOne || s[j] != ':')
			}
			if matched {
				i, j = i+1, j+size
				continue
			}
		}
		// One character more for the last run, and again from there.
		if star < 0 || mark == len(s) || s[mark] == ':' && p.pieces[star-1].kind == anyRunARN {
			return no
		}
		_, size := utf8.DecodeRuneInString(s[mark:])
		mark += size
		i, j = star, mark
	}
}

// prefix reports whether s begins with text, and how much of s that is.
func (p *pattern) prefix(s, text string) (int, bool) {
	if !p.fold {
		return len(text), strings.HasPrefix(s, text)
	}
	n := 0
	for text != "" {
		_, a := utf8.DecodeRuneInString(s[n:])
		_, b := utf8.DecodeRuneInString(text)
		if a == 0 || !strings.EqualFold(s[n:n+a], text[:b]) {
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

// resolved reports whether the request has every key that the pattern's variables need.
func (p *pattern) resolved(r *Request) bool {
	for i := range p.pieces {
		if piece := &p.pieces[i]; piece.kind == variable && !piece.hasDefault {
			if _, ok := r.value(piece.text); !ok {
				return false
			}
		}
	}
	return true
}
