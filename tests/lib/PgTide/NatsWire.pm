# PgTide::NatsWire
#		A NATS client of its own, byte for byte: what the libraries would not send.
#
# Owns: the protocol's lines (INFO, CONNECT, PUB, HPUB, SUB, MSG, HMSG, PING), so that a
# test can publish any bytes as header or body, and see exactly what comes.  Does not
# own: anything clever; one socket, blocking, no TLS.
package PgTide::NatsWire;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use JSON::PP qw(encode_json decode_json);
use MIME::Base64 ();
use Time::HiRes qw(time);

# address (default 127.0.0.1:4222); connect: more fields of CONNECT (user, pass, auth_token).
sub new
{
	my ($class, %args) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => $args{address} // '127.0.0.1:4222', Timeout => 5)
	  or die "NATS: $!";
	binmode $socket;
	my $self = bless { socket => $socket, buffer => '', inbox => "_INBOX.wire$$" . int(rand(1e9)),
		sid => 0, queue => [] }, $class;
	my $line = $self->_line(5);
	$line =~ /^INFO (.*)/ or die "NATS did not greet: $line";
	$self->{info} = decode_json($1);
	$self->_send('CONNECT '
		  . encode_json({ verbose => \0, pedantic => \0, headers => \1, no_responders => \1,
			  lang => 'perl', version => '0', protocol => 1, %{ $args{connect} // {} } }) . "\r\n");
	$self->flush;
	return $self;
}

sub _send
{
	my ($self, $bytes) = @_;
	while (length $bytes)
	{
		my $n = syswrite $self->{socket}, $bytes, 1 << 16;
		die "NATS: $!" unless defined $n;
		substr $bytes, 0, $n, '';
	}
	return;
}

# Reads until the buffer satisfies $enough.
sub _fill
{
	my ($self, $enough, $limit) = @_;
	my $until = time + $limit;
	my $select = IO::Select->new($self->{socket});
	until ($enough->())
	{
		my $left = $until - time;
		return 0 if $left <= 0 || !$select->can_read($left);
		my $n = sysread $self->{socket}, $self->{buffer}, 1 << 16, length $self->{buffer};
		die "NATS closed the connection\n" unless $n;
	}
	return 1;
}

sub _line
{
	my ($self, $limit) = @_;
	$self->_fill(sub { $self->{buffer} =~ /\r\n/ }, $limit) or return;
	$self->{buffer} =~ s/^(.*?)\r\n//s;
	return $1;
}

sub _bytes
{
	my ($self, $n) = @_;
	$self->_fill(sub { length $self->{buffer} >= $n + 2 }, 30) or die "NATS: message cut off\n";
	my $bytes = substr $self->{buffer}, 0, $n + 2, '';
	return substr $bytes, 0, $n;
}

# Handles one line; true if it was $wanted.
sub _handle
{
	my ($self, $line, $wanted) = @_;
	if ($line eq 'PING') { $self->_send("PONG\r\n"); }
	elsif ($line =~ /^MSG (\S+) \S+ +(?:(\S+) )?(\d+)$/)
	{
		push @{ $self->{queue} }, { subject => $1, reply => $2, headers => '', body => $self->_bytes($3) };
	}
	elsif ($line =~ /^HMSG (\S+) \S+ +(?:(\S+) )?(\d+) (\d+)$/)
	{
		my ($subject, $reply, $head, $all) = ($1, $2, $3, $4);
		my $bytes = $self->_bytes($all);
		push @{ $self->{queue} }, {
			subject => $subject,
			reply   => $reply,
			headers => substr($bytes, 0, $head),
			body    => substr($bytes, $head) };
	}
	elsif ($line =~ /^-ERR (.*)/) { die "NATS says: $1\n"; }
	return $line eq $wanted;
}

# Everything sent so far has been taken by the server.
sub flush
{
	my ($self) = @_;
	$self->_send("PING\r\n");
	while (1)
	{
		my $line = $self->_line(10) // die "NATS does not answer\n";
		return if $self->_handle($line, 'PONG');
	}
}

# headers: [[name, value], ...], or text of a whole header block; reply: subject.
sub pub
{
	my ($self, $subject, $body, %args) = @_;
	my $head = $args{headers};
	$head = "NATS/1.0\r\n" . join('', map { "$_->[0]: $_->[1]\r\n" } @$head) . "\r\n" if ref $head;
	my $reply = defined $args{reply} ? "$args{reply} " : '';
	if (defined $head)
	{
		$self->_send(sprintf "HPUB %s %s%d %d\r\n%s%s\r\n", $subject, $reply, length $head,
			length($head) + length($body), $head, $body);
	}
	else { $self->_send(sprintf "PUB %s %s%d\r\n%s\r\n", $subject, $reply, length $body, $body); }
	return;
}

sub sub
{
	my ($self, $subject) = @_;
	$self->_send("SUB $subject " . ++$self->{sid} . "\r\n");
	$self->flush;
	return;
}

# The next message {subject, reply, headers, body}, or undef.
sub next
{
	my ($self, $limit) = @_;
	my $until = time + ($limit // 5);
	until (@{ $self->{queue} })
	{
		my $line = $self->_line($until - time) // return;
		$self->_handle($line, '');
	}
	return shift @{ $self->{queue} };
}

# Publishes to a stream and returns its answer, decoded.
sub store
{
	my ($self, $subject, $body, %args) = @_;
	$self->sub("$self->{inbox}.>") unless $self->{answers}++;
	$self->pub($subject, $body, %args, reply => "$self->{inbox}.a");
	my $answer = $self->next(10) // die "no answer from a stream for $subject\n";
	return $answer->{body} eq '' ? { error => $answer->{headers} } : decode_json($answer->{body});
}

# A stored message as the stream has it, by natsctl: {subject, seq, headers => {name => value}, body, time}.
sub stored
{
	my ($class, $nats, $stream, $seq) = @_;
	my $message = $nats->ctl('msg-get', $stream, qq({"seq": $seq}))->{message};
	my $head = MIME::Base64::decode_base64($message->{hdrs} // '');
	my @lines = split /\r\n/, $head;
	my $first = shift @lines;
	my %headers;
	for (@lines)
	{
		my ($name, $value) = /^([^:]+): ?(.*)$/s or die "strange header line: $_\n";
		die "header $name twice\n" if exists $headers{$name};
		$headers{$name} = $value;
	}
	return {
		%$message,
		first_line => $first,
		headers    => \%headers,
		body       => MIME::Base64::decode_base64($message->{data} // '') };
}

1;
