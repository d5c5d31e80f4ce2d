# PgTide::Recorder
#		A proxy in front of a server that keeps every byte that crosses, in both directions.
#
# Owns: one TCP port on the loopback, one file for each direction of each connection, searching them.
# Does not own: what the bytes mean; connections must be plaintext (sslmode=disable).
package PgTide::Recorder;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

use PgTide::Process;
use PgTide::Test qw(wait_until);

# name, port; server (a PgTide::Region) or target (HOST:PORT, which need not listen yet); dir for the files; deaf: seconds for which whoever streams the WAL
# through here hears nothing from the moment it has begun, but is heard; then the connection ends.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;
	mkdir $self->{dir} or die "$self->{dir}: $!";
	my $socket = $self->{target} // $self->{server}->host . '/.s.PGSQL.' . $self->{server}->port;
	$self->{process} = PgTide::Process->new(
		name    => $self->{name},
		command => [ $^X, "-I$ENV{TIDE_TOP}/tests/lib", (map { "-I$_" } @INC), '-MPgTide::Recorder', '-e', 'PgTide::Recorder::serve(@ARGV)',
			$self->{port}, $socket, $self->{dir}, $self->{deaf} // 0 ],
		log => "$self->{dir}.log")->start;
	wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) }, 10, "$self->{name} to listen")
	  // die "$self->{name} does not listen\n";
	return $self;
}

# How a relay reaches the server through here.
sub conninfo
{
	my ($self) = @_;
	return "host=127.0.0.1 port=$self->{port} user=relay dbname=postgres connect_timeout=5 sslmode=disable gssencmode=disable";
}

# Everything that came from the server so far, a string for each connection.
sub from_server
{
	my ($self) = @_;
	return map { local (@ARGV, $/) = ($_); <> // '' } glob "$self->{dir}/*.from";
}

# How often these bytes came from the server.
sub seen
{
	my ($self, $bytes) = @_;
	my $n = 0;
	$n += () = /\Q$bytes\E/g for $self->from_server;
	return $n;
}

sub bytes
{
	my ($self) = @_;
	my $n = 0;
	$n += length for $self->from_server;
	return $n;
}

# How many connections ended because somebody was deaf for long enough.
sub cut
{
	my ($self) = @_;
	return scalar(() = glob "$self->{dir}/*.cut");
}

sub stop { return $_[0]{process}->stop; }

# ---- the process ----

sub _write
{
	my ($to, $bytes) = @_;
	while (length $bytes)
	{
		my $done = syswrite $to, $bytes or return 0;
		substr $bytes, 0, $done, '';
	}
	return 1;
}

sub _pass
{
	my ($from, $to, $file) = @_;
	my $n = sysread $from, my $bytes, 1 << 16;
	return undef unless $n;
	syswrite $file, $bytes or die "write: $!";
	return _write($to, $bytes) ? $bytes : undef;
}

# What the server says is lost, but for its first message: that the stream begins.
sub _be_deaf
{
	my ($client, $server, $name, $seconds) = @_;
	my $until = time + $seconds;
	my ($heard, $begun) = ('', 0);
	my $select = IO::Select->new($client, $server);
	while (time < $until)
	{
		for my $socket ($select->can_read(0.1))
		{
			exit 0 unless sysread $socket, my $bytes, 1 << 16;
			exit 0 if $socket == $client && !_write($server, $bytes);
			next if $begun || $socket == $client;
			$heard .= $bytes;
			my $length = length $heard < 5 ? next : 1 + unpack 'xN', $heard;
			next if length $heard < $length;
			_write($client, substr $heard, 0, $length) or exit 0;
			$begun = 1;
		}
	}
	open my $cut, '>', "$name.cut" or die "$name.cut: $!";
	exit 0;
}

sub _carry
{
	my ($client, $server, $name, $deaf) = @_;
	open my $to, '>', "$name.to" or die "$name.to: $!";
	open my $from, '>', "$name.from" or die "$name.from: $!";
	my $select = IO::Select->new($client, $server);
	while (my @ready = $select->can_read)
	{
		for my $socket (@ready)
		{
			my @way = $socket == $client ? ($client, $server, $to) : ($server, $client, $from);
			my $bytes = _pass(@way) // exit 0;
			_be_deaf($client, $server, $name, $deaf) if $deaf && $socket == $client && $bytes =~ /START_REPLICATION/;
		}
	}
	exit 0;
}

sub serve
{
	my ($port, $path, $dir, $deaf) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 20, ReuseAddr => 1) or die "listen: $!";
	my $n = 0;
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	while (1)
	{
		my $client = $listen->accept or next;
		$n++;
		next if fork;
		my $server = $path =~ m{^/} ? IO::Socket::UNIX->new(Peer => $path) : IO::Socket::INET->new(PeerAddr => $path);
		exit 1 unless $server;
		_carry($client, $server, sprintf('%s/%04d', $dir, $n), $deaf);
	}
	return;
}

1;
