# PgTide::Keys
#		Keys and certificates of a test, made by openssl while it runs.
#
# Owns: a certificate authority with server and client certificates, nkeys (ed25519
# in NATS' encoding), and JSON web tokens signed with them.  Nothing is kept.
package PgTide::Keys;

use strict;
use warnings;

use File::Path qw(make_path);
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);

sub _run
{
	my (@command) = @_;
	my ($out, $err);
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err) or die "@command: $err";
	return $out;
}

sub _write
{
	my ($path, $text, $mode) = @_;
	open my $file, '>', $path or die "$path: $!";
	print $file $text;
	close $file;
	chmod $mode // 0600, $path;
	return $path;
}

# A folder under the test's for everything made.
sub new
{
	my ($class) = @_;
	my $self = bless { dir => "$ENV{TIDE_DATA}/keys", serial => 0 }, $class;
	make_path($self->{dir});
	return $self;
}

# Writes a file there (mode 0600 unless told) and returns its path.
sub file
{
	my ($self, $name, $text, $mode) = @_;
	return _write("$self->{dir}/$name", $text, $mode);
}

# ---- certificates ----

# A self-signed authority; returns its certificate's path.
sub authority
{
	my ($self, $name) = @_;
	_run(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2),
		'-subj', "/CN=$name", '-keyout', "$self->{dir}/$name.key", '-out', "$self->{dir}/$name.pem");
	return "$self->{dir}/$name.pem";
}

# A certificate of that authority for those names ("DNS:nats-us", "IP:127.0.0.1"); returns (certificate, key).
sub certificate
{
	my ($self, $authority, $name, @alternatives) = @_;
	my $base = "$self->{dir}/$name";
	$self->file("$name.ext", 'subjectAltName=' . join(',', @alternatives) . "\n");
	_run(qw(openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes),
		'-subj', "/CN=$name", '-keyout', "$base.key", '-out', "$base.csr");
	_run(qw(openssl x509 -req -days 2), '-in', "$base.csr", '-CA', "$self->{dir}/$authority.pem",
		'-CAkey', "$self->{dir}/$authority.key", '-set_serial', ++$self->{serial} + 100,
		'-extfile', "$base.ext", '-out', "$base.pem");
	chmod 0600, "$base.key";
	return ("$base.pem", "$base.key");
}

# ---- nkeys ----

my %KIND = (operator => 14 << 3, account => 0, user => 20 << 3);

sub _crc16
{
	my ($data) = @_;
	my $crc = 0;
	for my $byte (unpack 'C*', $data)
	{
		$crc ^= $byte << 8;
		$crc = ($crc & 0x8000 ? $crc << 1 ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
	}
	return $crc;
}

sub _base32
{
	my ($data) = @_;
	my $bits = unpack 'B*', $data . pack 'v', _crc16($data);
	$bits .= '0' while length($bits) % 5;
	my @digits = ('A' .. 'Z', 2 .. 7);
	return join '', map { $digits[ oct "0b$_" ] } $bits =~ /(.{5})/g;
}

# kind: operator, account or user.  {public, seed, pem}
sub nkey
{
	my ($self, $kind) = @_;
	my $pem = "$self->{dir}/nkey-" . ++$self->{serial} . '.key';
	_run(qw(openssl genpkey -algorithm ed25519 -out), $pem);
	my $private = substr _run(qw(openssl pkey -outform DER -in), $pem), -32;
	my $public = substr _run(qw(openssl pkey -pubout -outform DER -in), $pem), -32;
	my $prefix = $KIND{$kind};
	return {
		pem    => $pem,
		public => _base32(pack('C', $prefix) . $public),
		seed   => _base32(pack('CC', 18 << 3 | $prefix >> 5, ($prefix & 31) << 3) . $private) };
}

# A NATS token about $subject (a nkey) by $issuer, with those fields of "nats".
sub token
{
	my ($self, $issuer, $subject, $kind, $nats) = @_;
	my $json = JSON::PP->new->canonical;
	my $text = encode_base64url($json->encode({ typ => 'JWT', alg => 'ed25519-nkey' })) . '.'
	  . encode_base64url($json->encode({
			jti  => 'TEST' . ++$self->{serial},
			iat  => time,
			iss  => $issuer->{public},
			sub  => $subject->{public},
			name => $kind,
			nats => { type => $kind, version => 2, %{ $nats // {} } } }));
	my $path = $self->file('to-sign', $text);
	return "$text." . encode_base64url(_run(qw(openssl pkeyutl -sign -rawin -inkey), $issuer->{pem}, '-in', $path));
}

# A credentials file; returns its path.
sub credentials
{
	my ($self, $name, $token, $seed) = @_;
	return $self->file($name, <<~"END");
		-----BEGIN NATS USER JWT-----
		$token
		------END NATS USER JWT------

		-----BEGIN USER NKEY SEED-----
		$seed
		------END USER NKEY SEED------
		END
}

1;
