package fakebackend

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestALineFromTheDataFileWriterIsReadWithoutEncodingJSON(t *testing.T) {
	want := map[string]string{"ThingName": "device", "CSR": "-----BEGIN CERTIFICATE REQUEST-----\nMIIB+/==\r\n", "quoted": "\"\\/\t\b\f", "": ""}
	raw, err := json.Marshal(want)
	require.NoError(t, err)
	for _, line := range []string{string(raw), " \t" + string(raw) + " ", `{ "ThingName" : "device" , "CSR" : "x" }`, `{"slash":"\/"}`} {
		got, ok := plainLine([]byte(line))
		require.True(t, ok, line)
		decoded, refusal := decodeLine([]byte(line))
		require.Nil(t, refusal)
		assert.Equal(t, decoded, got)
	}
}

func TestEachByteOfALineThatIsNotUTF8BecomesAReplacementCharacter(t *testing.T) {
	got, refusal := parseLine([]byte("{\"a\":\"\xff\xfe\",\"b\\n\":\"\xff\\n\"}"), false)
	require.Nil(t, refusal)
	assert.Equal(t, map[string]string{"a": "\ufffd\ufffd", "b\n": "\ufffd\n"}, got)
}

// FuzzPlainLine checks that a line which is taken without encoding/json is one that encoding/json takes too, and reads
// in the same way.
func FuzzPlainLine(f *testing.F) {
	for _, line := range []string{
		`{"ThingName":"device","SerialNumber":"1","CSR":"-----BEGIN\nMIIB\/\n"}`, `{"a":"b","a":"c"}`, ` { "a" : "b" , "c" : "" } `, `{}`, `"a":"b"}`, `{"a":"b"`,
		`{"a":"b",}`, `{"a":"b"}}`, `{"a":1}`, `{"a":null}`, `{"a":"\u0041"}`, `{"a":"\x"}`, `{"a":"\`, `{"a":"\"}`, `{"\n":"\\"}`, "{\"a\":\"\n\"}", `{"a":"ä"}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := plainLine(raw)
		if !ok {
			return
		}
		want, refusal := decodeLine(raw)
		require.Nil(t, refusal)
		require.Equal(t, want, got)
	})
}
