-- Checks the JWT of a request as an nginx front does it: Lua around OpenSSL. Called as check(alg, key), where key is the shared
-- secret, or a file with the public key.

local ffi = require "ffi"
local cjson = require "cjson.safe"

ffi.cdef [[
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct bio_st BIO;
const EVP_MD *EVP_sha256(void);
unsigned char *HMAC(const EVP_MD *md, const void *key, int key_length,
    const unsigned char *text, size_t length, unsigned char *out, unsigned int *out_length);
BIO *BIO_new_mem_buf(const void *bytes, int length);
int BIO_free(BIO *bio);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **key, void *callback, void *argument);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_MD_CTX_reset(EVP_MD_CTX *context);
int EVP_DigestVerifyInit(EVP_MD_CTX *context, void **key_context, const EVP_MD *md, void *engine, EVP_PKEY *key);
int EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
    const unsigned char *text, size_t text_length);
]]

local C = ffi.C
local sha256 = C.EVP_sha256()
local context = C.EVP_MD_CTX_new()
local out = ffi.new("unsigned char[32]")
local keys = {}

local function decoded(text)
    return ngx.decode_base64((text:gsub("-", "+"):gsub("_", "/")) .. ("="):rep(-#text % 4))
end

-- The public key in a file, read once.
local function public(file)
    local key = keys[file]
    if not key then
        local handle = assert(io.open(file))
        local text = handle:read("*a")
        handle:close()
        local bio = C.BIO_new_mem_buf(text, #text)
        key = C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
        C.BIO_free(bio)
        assert(key ~= nil, "no public key in " .. file)
        keys[file] = key
    end
    return key
end

-- Half of an ECDSA signature (RFC 7518 §3.4) as a DER integer.
local function integer(bytes)
    bytes = bytes:gsub("^%z+", "")
    if bytes:byte() > 127 then
        bytes = "\0" .. bytes
    end
    return "\2" .. string.char(#bytes) .. bytes
end

local function verified(alg, key, text, signature)
    if alg == "HS256" then
        C.HMAC(sha256, key, #key, text, #text, out, nil)
        return ffi.string(out, 32) == signature
    end
    if alg == "ES256" then
        if #signature ~= 64 then
            return false
        end
        local both = integer(signature:sub(1, 32)) .. integer(signature:sub(33))
        signature = "\48" .. string.char(#both) .. both
    end
    C.EVP_MD_CTX_reset(context)
    return C.EVP_DigestVerifyInit(context, nil, sha256, nil, public(key)) == 1
        and C.EVP_DigestVerify(context, signature, #signature, text, #text) == 1
end

return function(alg, key)
    local token = (ngx.var.http_authorization or ""):match("^[Bb]earer +(.+)$")
    if not token then
        return ngx.exit(401)
    end
    local text, head, body, signature = token:match("^(([%w_-]+)%.([%w_-]+))%.([%w_-]+)$")
    if not text then
        return ngx.exit(401)
    end
    local header, claims = cjson.decode(decoded(head) or ""), cjson.decode(decoded(body) or "")
    local now = ngx.time()
    if not header or not claims or header.alg ~= alg
        or claims.iss ~= "https://issuer.example/" or claims.aud ~= "https://api.example/"
        or type(claims.exp) ~= "number" or claims.exp < now
        or not verified(alg, key, text, decoded(signature) or "") then
        return ngx.exit(401)
    end
    for _, role in ipairs(claims.roles or {}) do
        if role == "customer" then
            return
        end
    end
    return ngx.exit(403)
end
