package jsonline

import (
	"encoding/json"
	"reflect"
)

// Same reports whether two JSON texts hold the same value: white space and the order of members apart.
func Same(a, b string) bool {
	var x, y any
	return a == b || json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
