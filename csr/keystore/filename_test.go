package keystore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

var fileNames = map[string]string{
	"device-one":      "device-one",
	"dev":             "dev",
	"Dev":             "dev@1",
	"DEV":             "dev@7",
	"deV":             "dev@4",
	"device-One":      "device-one@02",
	"SN001":           "sn001@3",
	"a:b":             "a+b",
	"a_b":             "a_b",
	"v1.2":            "v1.2",
	".hidden":         "=2ehidden",
	"end.":            "end=2e",
	"..":              "=2e=2e",
	".":               "=2e",
	"-rf":             "=2drf",
	"trailing ":       "trailing=20",
	"nul":             "=6eul",
	"NUL":             "=4eul@3",
	"con.txt":         "=63on.txt",
	"CON.txt":         "=43on.txt@3",
	"com1":            "=63om1",
	"LPT9.x":          "=4cpt9.x@3",
	"console":         "console",
	"com":             "com",
	"com10":           "com10",
	"a/b":             "a=2fb",
	`a\b`:             "a=5cb",
	"a@b":             "a=40b",
	"a=b":             "a=3db",
	"a+b":             "a=2bb",
	"ü":               "=c3=bc",
	"":                "=",
	"a\x00b":          "a=00b",
	"request.pem":     "request.pem",
	"\xff":            "=ff",
	"~":               "=7e",
	"..\\..\\secrets": "=2e.=5c..=5csecrets",
}

func TestFileNamesAreAsDocumented(t *testing.T) {
	seen := map[string]string{}
	for device, want := range fileNames {
		assert.Equal(t, want, keystore.FileName(device), "%q", device)
		back, err := keystore.DeviceName(want)
		require.NoError(t, err, want)
		assert.Equal(t, device, back)
		folded := strings.ToUpper(want)
		assert.Empty(t, seen[folded], "%q and %q meet where case does not count", device, seen[folded])
		seen[folded] = device
	}
}

func TestWhatFileNameDidNotMakeIsNoDevice(t *testing.T) {
	for _, name := range []string{
		"", "Dev", "dev@", "dev@0", "dev@10", "dev@8", "dev@w", "dev@1@1", "a=3", "a=", "a=zz", "a=61", "=2E", "a=2F", "nul", "con.txt",
		".unfinished-00", "-rf", "end.", "a b", "a/b", "ü", "==", "request.pem@", "@1", "@", "a:b",
	} {
		device, err := keystore.DeviceName(name)
		require.ErrorIs(t, err, keystore.ErrName, "%q gave %q", name, device)
	}
}

func TestEveryThingNameFitsInAFileName(t *testing.T) {
	for _, name := range []string{
		strings.Repeat("A", 128), strings.Repeat("aA", 64), strings.Repeat(":", 128), strings.Repeat("-", 128), strings.Repeat("_", 128),
		"NUL" + strings.Repeat("Z", 125), strings.Repeat("9", 128), strings.Repeat("a", 127) + "Z",
	} {
		require.Len(t, name, 128)
		file := keystore.FileName(name)
		assert.LessOrEqual(t, len(file), 155, name)
		back, err := keystore.DeviceName(file)
		require.NoError(t, err)
		assert.Equal(t, name, back)
	}
}

func TestFileNamesWorkOnThisFileSystem(t *testing.T) {
	dir := t.TempDir()
	for device := range fileNames {
		require.NoError(t, os.Mkdir(filepath.Join(dir, keystore.FileName(device)), 0o700), "%q", device)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, len(fileNames))
	for _, e := range entries {
		device, err := keystore.DeviceName(e.Name())
		require.NoError(t, err)
		assert.Contains(t, fileNames, device)
	}
}

func FuzzFileName(f *testing.F) {
	for device := range fileNames {
		f.Add(device, strings.ToUpper(device))
	}
	f.Add(strings.Repeat("aB:", 42), strings.Repeat("AB:", 42))
	f.Fuzz(func(t *testing.T, one, two string) {
		a, b := keystore.FileName(one), keystore.FileName(two)
		for device, file := range map[string]string{one: a, two: b} {
			back, err := keystore.DeviceName(file)
			require.NoError(t, err)
			require.Equal(t, device, back)
			require.NoError(t, portable(file))
			require.LessOrEqual(t, len(file), 3*len(device)+1+(len(device)+4)/5)
		}
		if one != two {
			require.NotEqual(t, strings.ToLower(a), strings.ToLower(b), "%q and %q share a file where case does not count", one, two)
		}
		// The other way round: a name is either refused, or the very one its device has.
		if device, err := keystore.DeviceName(one); err == nil {
			require.Equal(t, one, keystore.FileName(device))
		}
	})
}

// portable says what some system would mind in a file name.
func portable(file string) error {
	for _, c := range []byte(file) {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.+=@", rune(c)) {
			return fmt.Errorf("%q has %q", file, c)
		}
	}
	base, _, _ := strings.Cut(file, ".")
	switch {
	case file == "", strings.HasPrefix(file, "."), strings.HasPrefix(file, "-"), strings.HasSuffix(file, "."), strings.HasSuffix(file, " "):
		return fmt.Errorf("%q starts or ends badly", file)
	case strings.Contains(" con prn aux nul ", " "+base+" "),
		len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && strings.Contains("0123456789", base[3:]):
		return fmt.Errorf("%q is a device of Windows", file)
	}
	return nil
}
