package keystore

import (
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// maxFileName is the longest name of a file on the systems there are, in bytes.
const maxFileName = 255

const (
	hexDigits  = "0123456789abcdef"
	caseDigits = "0123456789abcdefghijklmnopqrstuv"
)

// FileName turns a device's name into the name of a file that is safe on Linux, macOS and Windows. Different devices
// have different file names, also where the file system does not tell upper from lower case, and [DeviceName] turns
// them back.
//
// Small letters, digits, - and _ stay as they are, and so do dots inside. A colon becomes +. Capitals become small
// letters, and which ones they were follows after an @, five letters to a digit (0 to v): Dev is dev@1, SN001 is
// sn001@3. Every other byte, a dot or a - at the start, a dot at the end, and the first letter of a name that Windows
// keeps for its devices (nul, con.txt, com1, …) becomes = and two hex digits. The empty name is "=".
//
// Names of things in AWS IoT (at most 128 letters, digits, : _ -) make 155 bytes at most. Other names can grow to three
// times their length: [Folder.Put] refuses what is longer than the 255 bytes file systems take.
func FileName(device string) string {
	if device == "" {
		return "="
	}
	b := make([]byte, 0, len(device)+8)
	var capitals []byte // one bit for each letter kept, five bits to a byte
	letters := 0
	reserved := reservedOnWindows(device)
	for i := range len(device) {
		c := device[i]
		edge := i == 0 || i == len(device)-1
		switch {
		case i == 0 && reserved:
			b = appendHex(b, c)
		case 'a' <= c && c <= 'z':
			b = append(b, c)
			letters++
		case 'A' <= c && c <= 'Z':
			for len(capitals) <= letters/5 {
				capitals = append(capitals, 0)
			}
			capitals[letters/5] |= 1 << (letters % 5)
			b = append(b, c|0x20)
			letters++
		case '0' <= c && c <= '9', c == '_', c == '-' && i > 0, c == '.' && !edge:
			b = append(b, c)
		case c == ':':
			b = append(b, '+')
		default:
			b = appendHex(b, c)
		}
	}
	if len(capitals) > 0 {
		b = append(b, '@')
		for _, bits := range capitals {
			b = append(b, caseDigits[bits])
		}
	}
	return string(b)
}

func appendHex(b []byte, c byte) []byte { return append(b, '=', hexDigits[c>>4], hexDigits[c&15]) }

// reservedOnWindows reports whether Windows takes a file of this name for a device: whatever follows the first dot does
// not count.
func reservedOnWindows(device string) bool {
	base, _, _ := strings.Cut(device, ".")
	if len(base) != 3 && len(base) != 4 {
		return false
	}
	base = strings.ToLower(base)
	switch base {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(base) == 4 && (base[:3] == "com" || base[:3] == "lpt") && '0' <= base[3] && base[3] <= '9'
}

// DeviceName turns a name made by [FileName] back. Anything else, temporary files and what people put beside the
// devices included, is an [ErrName].
func DeviceName(file string) (string, error) {
	fail := func() (string, error) {
		return "", fmt.Errorf("%w: %s is no file name of a device", ErrName, rule.Quote(file))
	}
	if file == "=" {
		return "", nil
	}
	body, capitals, _ := strings.Cut(file, "@")
	b := make([]byte, 0, len(body))
	letters := 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '=':
			if i+2 >= len(body) {
				return fail()
			}
			hi, lo := strings.IndexByte(hexDigits, body[i+1]), strings.IndexByte(hexDigits, body[i+2])
			if hi < 0 || lo < 0 {
				return fail()
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		case c == '+':
			b = append(b, ':')
		case 'a' <= c && c <= 'z':
			if letters/5 < len(capitals) {
				bits := strings.IndexByte(caseDigits, capitals[letters/5])
				if bits < 0 {
					return fail()
				}
				if bits&(1<<(letters%5)) != 0 {
					c &^= 0x20
				}
			}
			b = append(b, c)
			letters++
		default:
			b = append(b, c)
		}
	}
	// There is exactly one file name to a device; whatever else decodes to it was not made by FileName.
	if device := string(b); FileName(device) == file {
		return device, nil
	}
	return fail()
}
