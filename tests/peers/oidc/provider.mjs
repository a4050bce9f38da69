// An OpenID provider (npm: oidc-provider) that people of tests log in at. Its pages are its own: whoever types
// a name is that person. It listens on a free port of this machine, and says which in a line of its output.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const key = (kid, alg, type, options) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), kid, alg, use: "sig" };
};

// A public client of each kind of signature; `other` is somebody else's.
const client = (client_id, id_token_signed_response_alg) => ({
  client_id,
  id_token_signed_response_alg,
  application_type: "native",
  token_endpoint_auth_method: "none",
  redirect_uris: ["http://127.0.0.1/callback"],
  response_types: ["code"],
  grant_types: ["authorization_code"],
});

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      client("trilith", "RS256"),
      client("trilith-es256", "ES256"),
      client("trilith-eddsa", "EdDSA"),
      client("other", "RS256"),
    ],
    jwks: {
      keys: [
        key("rsa", "RS256", "rsa", { modulusLength: 2048 }),
        key("p256", "ES256", "ec", { namedCurve: "P-256" }),
        key("ed", "EdDSA", "ed25519", {}),
      ],
    },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    pkce: { required: () => true },
    cookies: { keys: ["of a test"] },
    // It is asked by nothing but tests, whose output it would be in.
    renderError: (ctx, out) => {
      ctx.type = "text";
      ctx.body = JSON.stringify(out);
    },
  });
  server.on("request", provider.callback());
  console.log(`listening ${issuer}`);
});
