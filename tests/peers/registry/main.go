// Other people's registries of container images, for crates/trilith/tests/it/registry.rs:
//
//	registry serve google          pkg/registry of go-containerregistry, which has the referrers API; nobody logs in
//	registry serve distribution    CNCF's distribution, which has no referrers API; a token for reader:secret
//	registry push LAYOUT REPOSITORY [USER:PASSWORD]
//
// The first two print their address and go on until their standard input ends. The third pushes each manifest of a
// layout, under its tag where it has one, as `crane` does.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const (
	user, password = "reader", "secret"
	service        = "registry.test"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve" && os.Args[2] == "google":
		serve(func(net.Listener) http.Handler {
			quiet := log.New(io.Discard, "", 0)
			return registry.New(registry.WithReferrersSupport(true), registry.Logger(quiet))
		})
	case len(os.Args) == 3 && os.Args[1] == "serve" && os.Args[2] == "distribution":
		serve(distribution)
	case len(os.Args) >= 4 && os.Args[1] == "push":
		push(os.Args[2], os.Args[3], os.Args[4:])
	default:
		fmt.Fprintln(os.Stderr, "usage: registry serve google|distribution, or push LAYOUT REPOSITORY [USER:PASSWORD]")
		os.Exit(2)
	}
}

func serve(make func(net.Listener) http.Handler) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	handler := make(listener)
	go func() { check(http.Serve(listener, handler)) }()
	fmt.Println(listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A registry that asks for tokens, and beside it the service that gives them to whoever knows the password.
func distribution(listener net.Listener) http.Handler {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "tokens"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	folder := must(os.MkdirTemp("", "registry"))
	bundle := filepath.Join(folder, "tokens.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: certificate}
	check(os.WriteFile(bundle, pem.EncodeToMemory(block), 0o600))

	config := &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": configuration.Parameters{}},
		Auth: configuration.Auth{"token": configuration.Parameters{
			"realm":          fmt.Sprintf("http://%s/token", listener.Addr()),
			"service":        service,
			"issuer":         "tokens",
			"rootcertbundle": bundle,
		}},
	}
	config.HTTP.Secret = "of this process"
	config.Log.Level = "error"
	config.Catalog.MaxEntries = 10
	app := handlers.NewApp(context.Background(), config)
	_ = os.RemoveAll(folder)
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(writer http.ResponseWriter, request *http.Request) {
		gotUser, gotPassword, _ := request.BasicAuth()
		if gotUser != user || gotPassword != password || request.FormValue("service") != service {
			http.Error(writer, "who is there?", http.StatusUnauthorized)
			return
		}
		options := (&jose.SignerOptions{}).WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(certificate)})
		signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options))
		var access []map[string]any
		for _, scope := range request.Form["scope"] {
			parts := strings.Split(scope, ":")
			if len(parts) == 3 {
				actions := strings.Split(parts[2], ",")
				access = append(access, map[string]any{"type": parts[0], "name": parts[1], "actions": actions})
			}
		}
		now := time.Now()
		token := must(jwt.Signed(signer).Claims(map[string]any{
			"iss": "tokens", "sub": user, "aud": service, "jti": "1", "access": access,
			"nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}).Serialize())
		_ = json.NewEncoder(writer).Encode(map[string]any{"token": token, "expires_in": 60})
	})
	mux.Handle("/", app)
	return mux
}

func push(folder, repository string, login []string) {
	options := []remote.Option{remote.WithAuth(authn.Anonymous)}
	if len(login) > 0 {
		username, secret, _ := strings.Cut(login[0], ":")
		options = []remote.Option{remote.WithAuth(&authn.Basic{Username: username, Password: secret})}
	}
	repo := must(name.NewRepository(repository, name.Insecure))
	index := must(must(layout.FromPath(folder)).ImageIndex())
	for _, entry := range must(index.IndexManifest()).Manifests {
		var to name.Reference = repo.Digest(entry.Digest.String())
		if tag := entry.Annotations["org.opencontainers.image.ref.name"]; tag != "" {
			to = repo.Tag(tag)
		}
		if entry.MediaType.IsIndex() {
			check(remote.WriteIndex(to, must(index.ImageIndex(entry.Digest)), options...))
		} else {
			check(remote.Write(to, must(index.Image(entry.Digest)), options...))
		}
	}
}
