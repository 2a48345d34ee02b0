package s3_test

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

func ExampleStore() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := s3.New()
	if err := store.CreateBucket("fleet", "us-east-1", "123456789012", now); err != nil {
		fmt.Println(err)
	}
	put := s3.PutInput{Bucket: "fleet", Key: "runs/1/devices.json", Body: strings.NewReader("{}\n"), IfNoneMatch: "*"}
	for range 2 {
		if _, err := store.Put(put, now); err != nil {
			fmt.Println(err)
		}
	}
	object, err := store.Get("fleet", "runs/1/devices.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(object.Reader())
	fmt.Printf("%q %s\n", body, object.ETag)
	// Output:
	// PreconditionFailed: At least one of the pre-conditions you specified did not hold (s3://fleet/runs/1/devices.json)
	// "{}\n" 8a80554c91d9fca8acb82f023de02f11
}
