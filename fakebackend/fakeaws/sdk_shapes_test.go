package fakeaws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The tests of this file hold every route against the AWS SDK for Go: what its client sends must be read member by
// member, and what the fake writes must be read by it member by member.

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func sdkClient(answer func(r *http.Request) (*http.Response, error)) *iot.Client {
	return iot.New(iot.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1"), HTTPClient: &http.Client{Transport: transportFunc(answer)},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}, nil
		}),
		RetryMaxAttempts: 1,
	})
}

// callSDK calls an operation of the client by its name. It returns the output and what the call returned as error.
func callSDK(t *testing.T, client *iot.Client, op string, fillInput func(reflect.Value)) (in, out reflect.Value, err error) {
	t.Helper()
	method := reflect.ValueOf(client).MethodByName(op)
	require.True(t, method.IsValid(), "the SDK has no %s", op)
	in = reflect.New(method.Type().In(1).Elem())
	fillInput(in.Elem())
	results := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
	err, _ = results[1].Interface().(error)
	return in, results[0], err
}

var sampleTime = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

// fill gives every field of a struct a value that tells where it belongs. Characters that need escaping are among them.
func fill(v reflect.Value, path string) {
	switch value := v.Addr().Interface().(type) {
	case *time.Time:
		*value = sampleTime
		return
	case *task.Link:
		*value = task.NewLink("https://link/" + path)
		return
	case *fakebackend.KeyPair:
		value.PublicKey = path
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				fill(v.Field(i), path+"/"+strings.ToLower(f.Name))
			}
		}
	case reflect.String:
		v.SetString("a:b+c d%" + path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(len(path)))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), path+"/1")
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		item := reflect.New(v.Type().Elem()).Elem()
		fill(item, path+"/value")
		v.SetMapIndex(reflect.ValueOf("key of"+path).Convert(v.Type().Key()), item)
	}
}

// flatten writes a value as a set of paths and scalars, with names in lower case, so that structs of two libraries
// compare.
func flatten(v reflect.Value, path string, out map[string]string) {
	switch value := valueOf(v).(type) {
	case time.Time:
		out[path] = value.UTC().Format(time.RFC3339Nano)
		return
	case task.Link:
		out[path] = value.URL()
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			flatten(v.Elem(), path, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Name != "ResultMetadata" {
				flatten(v.Field(i), path+"/"+strings.ToLower(f.Name), out)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			flatten(v.Index(i), fmt.Sprintf("%s/%d", path, i+1), out)
		}
	case reflect.Map:
		for key, item := range v.Seq2() {
			flatten(item, path+"/"+key.String(), out)
		}
	case reflect.Invalid:
	default:
		out[path] = fmt.Sprint(v.Interface())
	}
}

func TestEveryOperationReadsWhatTheSDKSends(t *testing.T) {
	for _, route := range iotRoutes {
		t.Run(route.name, func(t *testing.T) {
			var got any
			client := sdkClient(func(r *http.Request) (*http.Response, error) {
				found, labels := findIoT(r.Method, r.URL.EscapedPath())
				require.NotNil(t, found, "%s %s", r.Method, r.URL.EscapedPath())
				require.Equal(t, route.name, found.name)
				var body []byte
				if r.Body != nil {
					var err error
					body, err = io.ReadAll(r.Body)
					require.NoError(t, err)
				}
				var err error
				got, _, err = found.decode(body, labels, r.URL.Query(), r.Header)
				require.NoError(t, err)
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
			})
			in, _, err := callSDK(t, client, route.name, func(v reflect.Value) { fill(v, "") })
			require.NoError(t, err)
			sent, read := map[string]string{}, map[string]string{}
			flatten(in, "", sent)
			flatten(reflect.ValueOf(got), "", read)
			for path, value := range read {
				if _, has := sent[path]; !has && value == "false" {
					continue // two operations share this input, and only the other one has the member
				}
				assert.Equal(t, sent[path], value, path)
			}
			assert.Len(t, read, countScalars(route.input), "every member of the fake's input arrives")
		})
	}
}

// countScalars is how many paths a filled value of the type has.
func countScalars(t reflect.Type) int {
	v := reflect.New(t).Elem()
	fill(v, "")
	out := map[string]string{}
	flatten(v, "", out)
	return len(out)
}

func TestTheSDKReadsWhatEveryOperationWrites(t *testing.T) {
	for _, route := range iotRoutes {
		t.Run(route.name, func(t *testing.T) {
			written := reflect.New(route.output)
			fill(written.Elem(), "")
			body, err := encodeIoT(written.Interface(), func(l task.Link) (string, error) { return l.URL(), nil })
			require.NoError(t, err)
			require.True(t, json.Valid(body))
			client := sdkClient(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
			})
			_, out, err := callSDK(t, client, route.name, func(v reflect.Value) { fill(v, "") })
			require.NoError(t, err, "%s", body)
			want, got := map[string]string{}, map[string]string{}
			flatten(written, "", want)
			flatten(out, "", got)
			for path, value := range want {
				assert.Equal(t, value, got[path], path)
			}
		})
	}
}
