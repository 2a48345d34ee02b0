// Package restjson reads the requests and writes the answers of a REST service with JSON bodies, such as AWS IoT. All
// it knows of an operation stands in one struct, the operation's input, whose tags state each member once:
//
//	type createThingInput struct {
//		ThingName     string   `path:"thingName" is:"ThingName"`
//		ThingTypeName string   `json:"thingTypeName" is:"ThingTypeName"`
//		Principal     string   `header:"principal=x-amzn-principal" required:"true"`
//		PageSize      *int32   `query:"pageSize" is:"PageSize"`
//		Groups        []string `json:"groups" is:"GroupName"`
//	}
//
// The tag path, query, header or json names the place and the member as the API model has it; "member=wire" when the
// path, the query or the header has another name for it. The tag is names the [Shape] that the member's value must
// have; for a list, that of its items; for a map, those of its keys and values, as in
// is:"AttributeName,AttributeValue". A member of the path is required, and so is one with the tag required:"true". An
// embedded struct's members are the operation's own. Structs inside a JSON body have json, is and required tags too.
//
// A string member that is present and empty is not the same as one that is absent: AWS holds the first to its shape. A
// Go string has one value for both, so [Operation.Decode] returns the present ones beside the input, as [Empty].
package restjson
