# PgTide::Relay
#		A `pg_tide relay` process of a test.
#
# Owns: its start, readiness and end, and reading what it serves over HTTP.
package PgTide::Relay;

use strict;
use warnings;
use parent 'PgTide::Process';

use File::Path qw(make_path);
use PgTide::Test qw(wait_until);

my $next_port = 9187;

# TIDE_PROGRAM names another build of the program (a sanitized one).
# name; region (PgTide::Region) or conninfo; netns; http (address:port); args (more arguments); env.
sub new
{
	my ($class, %args) = @_;
	make_path($ENV{TIDE_DATA});
	my $http = $args{http} // '127.0.0.1:' . $next_port++;
	my $conninfo = $args{conninfo} // $args{region}->relay_conninfo;
	my $self = PgTide::Process::new(
		$class, %args,
		log     => "$ENV{TIDE_DATA}/relay-$args{name}.log",
		http    => $http,
		command => [
			$ENV{TIDE_PROGRAM} // "$ENV{TIDE_TOP}/build/pg_tide", 'relay', '-d', $conninfo, '--http', $http,
			@{ $args{args} // [] }
		]);
	return $self;
}

# Starts and waits for /readyz (unless wait => 0).
sub start
{
	my ($self, %args) = @_;
	$self->SUPER::start;
	return $self if defined $args{wait} && !$args{wait};
	my $ready = wait_until(
		sub { !$self->alive || ($self->get('/readyz'))[0] == 200 },
		$args{limit} // 20,
		"relay $self->{name} to be ready");
	die "relay $self->{name} did not start:\n" . $self->log_text
	  unless defined $ready && $self->alive;
	return $self;
}

# (status, body); status 0 if there was no answer.
sub get
{
	my ($self, $path) = @_;
	my $program = 'use HTTP::Tiny; my $r = HTTP::Tiny->new(timeout => 5)->get($ARGV[0]);'
	  . 'print $r->{status} == 599 ? 0 : $r->{status}, "\n", $r->{content};';
	my @command =
	  PgTide::Process::in_netns($self->{netns}, $^X, '-e', $program, "http://$self->{http}$path");
	open my $pipe, '-|', @command or die "$command[0]: $!";
	chomp(my $status = <$pipe> // 0);
	local $/;
	my $body = <$pipe> // '';
	close $pipe;
	return ($status, $body);
}

# {'name{labels}' => value} of /metrics.
sub metrics
{
	my ($self) = @_;
	my ($status, $body) = $self->get('/metrics');
	die "no metrics from relay $self->{name} (status $status)" unless $status == 200;
	return { map { /^([a-zA-Z_:][^ {]*(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () } split /\n/, $body };
}

# Sum of one family over the series whose labels match.
sub metric
{
	my ($self, $name, $labels) = @_;
	my $metrics = $self->metrics;
	my $sum;
	for my $series (keys %$metrics)
	{
		next unless $series =~ /^\Q$name\E(\{|$)/;
		next if defined $labels && $series !~ $labels;
		$sum = ($sum // 0) + $metrics->{$series};
	}
	return $sum;
}

1;
