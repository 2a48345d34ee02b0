package fakebackend

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecodeLine checks that a line is taken when encoding/json reads it as an object of strings, numbers and booleans,
// and with the values that it reads.
func FuzzDecodeLine(f *testing.F) {
	for _, line := range []string{
		`{"ThingName":"device","SerialNumber":"1","CSR":"-----BEGIN\nMIIB\/\n"}`, `{"a":"b","a":"c"}`, ` { "a" : "b" , "c" : "" } `, `{}`, `"a":"b"}`,
		`{"a":-1.50e3,"b":true,"c":false}`, `{"a":null}`, `{"a":["\u0041"]}`, `{"a":{}}`, `{"a":{},"a":"b"}`, `{"a":"\ud800"}`, `{"\n":"\\"}`, `{"a":"ä"}`, `null`, `[]`, `{"a":1}x`,
		"{\"a\":\"\xff\xfe\",\"b\\n\":\"\xff\\n\"}", "{\"\xff\":\"\"}",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, refusal := decodeLine(raw)
		var object map[string]json.RawMessage
		want, ok := map[string]string{}, json.Unmarshal(raw, &object) == nil && object != nil
		for name, value := range object {
			var text string
			switch value[0] {
			case '"':
				require.NoError(t, json.Unmarshal(value, &text))
			case '{', '[', 'n':
				ok = false
			default:
				text = string(value)
			}
			want[name] = text
		}
		if refusal != nil && ok {
			require.Less(t, len(object), members(t, raw), "%q: %v", raw, refusal) // an earlier one of a name was no scalar
			return
		}
		require.Equal(t, ok, refusal == nil, "%q: %v", raw, refusal)
		if ok {
			require.Equal(t, want, got)
		}
	})
}

// members counts the members of an object as they are written.
func members(t *testing.T, raw []byte) (n int) {
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		_, err := d.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		n++
	}
	return n
}
